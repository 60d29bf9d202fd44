// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Checkpoint} from "../src/Checkpoint.sol";
import {Checkpoints} from "../src/Checkpoints.sol";
import {Deposits} from "../src/Deposits.sol";
import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Withdrawals} from "../src/Withdrawals.sol";
import {Fixture} from "./Fixture.sol";
import {Tree} from "./Tree.sol";

/// @dev Repeats a call to the vault while the vault sends it.
contract EchoToken is ERC20("Echo", "ECHO") {
    address private _target;
    bytes private _call;

    constructor(address holder) {
        _mint(holder, 1_000);
    }

    function aim(address target, bytes calldata data) external {
        _target = target;
        _call = data;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (_target == address(0) || from != _target) return;
        (bool done, bytes memory reason) = _target.call(_call);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(reason, 32), mload(reason))
            }
        }
    }
}

contract WithdrawalsTest is Fixture {
    struct Request {
        TestToken token;
        address recipient;
        uint256 amount;
    }

    Signers private four;
    Request[] private requests;
    bytes32[] private leaves;

    function setUp() external {
        four = equalSigners(4, "validator");
        setUpWith(four);
        usdc.mint(address(vault), 1e30);
        eth.mint(address(vault), 1e30);
    }

    /// forge-config: default.fuzz.runs = 48
    function testFuzzPaysEveryLeafOnce(uint256 drawn, uint256 seed) external {
        uint256 count = bound(drawn, 1, 70);
        request(count, seed);
        Checkpoint memory c = submitted(1);
        for (uint64 i; i < count; ++i) {
            uint64 index = uint64((i + seed % 1000) % count);
            Request memory r = requests[index];
            uint256 before = r.token.balanceOf(r.recipient);
            assertFalse(vault.isWithdrawn(index));
            bytes32[] memory proof = Tree.proof(leaves, index);
            vm.expectEmit();
            emit Withdrawals.Withdrawn(index, address(r.token), r.recipient, r.amount);
            pay(c, index, r, proof);
            assertEq(r.token.balanceOf(r.recipient), before + r.amount);
            assertTrue(vault.isWithdrawn(index));
            vm.expectRevert(abi.encodeWithSelector(Withdrawals.AlreadyWithdrawn.selector, index));
            pay(c, index, r, proof);
        }
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzzRefusesWhatIsNotALeaf(uint256 drawn, uint256 seed, uint256 which) external {
        uint256 count = bound(drawn, 1, 40);
        request(count, seed);
        Checkpoint memory c = submitted(1);
        uint64 index = uint64(seed % count);
        Request memory r = requests[index];
        bytes32[] memory proof = Tree.proof(leaves, index);
        which %= 7;
        if (which == 0) r.amount += 1;
        if (which == 1) r.recipient = address(uint160(r.recipient) ^ 1);
        if (which == 2) r.token = address(r.token) == address(usdc) ? eth : usdc;
        if (which == 3) index = uint64(count == 1 ? 1 : (index + 1) % count);
        if (which == 4) proof = resized(proof, proof.length + 1);
        if (which > 4) vm.assume(proof.length > 0);
        if (which == 5) proof = resized(proof, proof.length - 1);
        if (which == 6) proof[seed % proof.length] ^= bytes32(uint256(1) << (seed % 256));
        vm.expectRevert(Checkpoints.WrongProof.selector);
        pay(c, index, r, proof);
    }

    function testFuzzRefusesNoise(bytes32[] calldata proof, uint64 index) external {
        request(9, 1);
        Checkpoint memory c = submitted(1);
        Request memory r = requests[3];
        vm.expectRevert(Checkpoints.WrongProof.selector);
        pay(c, index, r, proof);
    }

    /// @dev A leaf that the tree has, but the count does not cover, is none.
    function testRefusesAnIndexFromTheCountOn() external {
        request(8, 2);
        Checkpoint memory c = checkpointOf(1);
        c.withdrawalRoot = Tree.root(leaves);
        c.withdrawalCount = 7;
        submitByAll(c, four);
        bytes32[] memory proof = Tree.proof(leaves, 7);
        Request memory r = requests[7];
        vm.expectRevert(Checkpoints.WrongProof.selector);
        pay(c, 7, r, proof);
    }

    function testAnEmptyTreePaysNothing() external {
        Checkpoint memory c = submitted(1);
        vm.expectRevert(Checkpoints.WrongProof.selector);
        vault.withdraw(c, 0, address(usdc), ALICE, 1, new bytes32[](0));
    }

    function testAnyoneMayBringTheProof() external {
        request(5, 3);
        Checkpoint memory c = submitted(1);
        bytes32[] memory proof = Tree.proof(leaves, 2);
        Request memory r = requests[2];
        vm.prank(BOB);
        pay(c, 2, r, proof);
        assertEq(r.token.balanceOf(r.recipient), r.amount);
        assertEq(r.token.balanceOf(BOB), 0);
    }

    function testRefusesTokensNotOnTheList() external {
        TestToken other = newToken("O", 18);
        other.mint(address(vault), 50);
        requests.push(Request(other, ALICE, 50));
        leaves.push(withdrawalLeaf(0, address(other), ALICE, 50));
        Checkpoint memory c = submitted(1);
        vm.expectRevert(abi.encodeWithSelector(Deposits.UnknownToken.selector, address(other)));
        vault.withdraw(c, 0, address(other), ALICE, 50, new bytes32[](0));
    }

    function testWhatTheVaultDoesNotHaveStaysOpen() external {
        leaves.push(withdrawalLeaf(0, address(usdc), ALICE, 2e30));
        Checkpoint memory c = submitted(1);
        vm.expectRevert();
        vault.withdraw(c, 0, address(usdc), ALICE, 2e30, new bytes32[](0));
        assertFalse(vault.isWithdrawn(0));
        usdc.mint(address(vault), 1e30);
        vault.withdraw(c, 0, address(usdc), ALICE, 2e30, new bytes32[](0));
    }

    // --- Which checkpoints (C5)

    function testFuzzRefusesACheckpointNotTaken(Checkpoint memory c) external {
        request(3, 4);
        submitted(1);
        Request memory r = requests[0];
        bytes32[] memory proof = Tree.proof(leaves, 0);
        vm.expectRevert(Checkpoints.NotCheckpointed.selector);
        pay(c, 0, r, proof);
    }

    function testRefusesACheckpointWithAnotherRoot() external {
        request(3, 5);
        Checkpoint memory c = submitted(1);
        leaves[0] = withdrawalLeaf(0, address(usdc), BOB, 1e30);
        c.withdrawalRoot = Tree.root(leaves);
        bytes32[] memory proof = Tree.proof(leaves, 0);
        vm.expectRevert(Checkpoints.NotCheckpointed.selector);
        vault.withdraw(c, 0, address(usdc), BOB, 1e30, proof);
    }

    function testOlderCheckpointsStayGoodUntilTheirSlotIsTaken() external {
        request(3, 6);
        Checkpoint memory first = submitted(1);
        bytes32[][3] memory proofs;
        for (uint256 i; i < 3; ++i) {
            proofs[i] = Tree.proof(leaves, i);
        }
        request(2, 7);
        submitted(2);
        submitted(256);
        pay(first, 0, requests[0], proofs[0]);
        Checkpoint memory last = submitted(257);
        Request memory r = requests[1];
        vm.expectRevert(Checkpoints.NotCheckpointed.selector);
        pay(first, 1, r, proofs[1]);
        pay(last, 1, r, Tree.proof(leaves, 1));
    }

    function testPaidOnceWhicheverCheckpointProves() external {
        request(3, 8);
        Checkpoint memory first = submitted(1);
        bytes32[] memory proof = Tree.proof(leaves, 1);
        request(4, 9);
        Checkpoint memory second = submitted(2);
        Request memory r = requests[1];
        pay(second, 1, r, Tree.proof(leaves, 1));
        bytes memory reason = abi.encodeWithSelector(Withdrawals.AlreadyWithdrawn.selector, 1);
        vm.expectRevert(reason);
        pay(first, 1, r, proof);
    }

    function testRefusesToBeEnteredAgain() external {
        EchoToken echo = new EchoToken(address(this));
        address[] memory list = new address[](1);
        list[0] = address(echo);
        vault = newSettlement(GENESIS, EPOCH, vault.validatorSetHash(), list);
        echo.transfer(address(vault), 500);
        leaves.push(withdrawalLeaf(0, address(echo), ALICE, 10));
        leaves.push(withdrawalLeaf(1, address(echo), ALICE, 20));
        Checkpoint memory c = submitted(1);
        bytes32[] memory other = Tree.proof(leaves, 1);
        echo.aim(
            address(vault), abi.encodeCall(vault.withdraw, (c, 1, address(echo), ALICE, 20, other))
        );
        bytes32[] memory proof = Tree.proof(leaves, 0);
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vault.withdraw(c, 0, address(echo), ALICE, 10, proof);
    }

    // --- Making withdrawals

    function request(uint256 count, uint256 seed) private {
        for (uint256 i; i < count; ++i) {
            uint256 draw = uint256(keccak256(abi.encode(seed, i)));
            address recipient = address(uint160(draw));
            Request memory r = Request(draw % 2 == 0 ? usdc : eth, recipient, 1 + draw % 1e24);
            leaves.push(
                withdrawalLeaf(uint64(leaves.length), address(r.token), recipient, r.amount)
            );
            requests.push(r);
        }
    }

    function submitted(uint64 number) private returns (Checkpoint memory c) {
        c = checkpointOf(number);
        c.withdrawalRoot = Tree.root(leaves);
        c.withdrawalCount = uint64(leaves.length);
        submitByAll(c, four);
    }

    function resized(bytes32[] memory proof, uint256 length)
        private
        pure
        returns (bytes32[] memory made)
    {
        made = new bytes32[](length);
        for (uint256 i; i < length && i < proof.length; ++i) {
            made[i] = proof[i];
        }
    }

    function pay(Checkpoint memory c, uint64 index, Request memory r, bytes32[] memory proof)
        private
    {
        vault.withdraw(c, index, address(r.token), r.recipient, r.amount, proof);
    }
}
