// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Checkpoint} from "../src/Checkpoint.sol";
import {Checkpoints} from "../src/Checkpoints.sol";
import {Deposits} from "../src/Deposits.sol";
import {Settlement} from "../src/Settlement.sol";
import {Staking} from "../src/Staking.sol";
import {TestToken} from "../src/TestToken.sol";
import {Fixture} from "./Fixture.sol";
import {Tree} from "./Tree.sol";

/// @dev Keeps one base unit of every transfer, or asks for an exit while it is being staked.
contract OddToken is ERC20("Odd", "ODD") {
    Settlement private _vault;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function aim(Settlement vault) external {
        _vault = vault;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from == address(0) || to == address(0)) return;
        if (address(_vault) != address(0)) _vault.exit();
        else super._update(to, address(1), 1);
    }
}

contract StakingTest is Fixture {
    uint8 private constant REGISTER = 1;
    uint8 private constant ADD = 2;
    uint8 private constant REMOVE = 3;
    uint8 private constant EXIT = 4;
    uint8 private constant UNJAIL = 5;
    bytes private constant ME = "who I am";

    Signers private four;
    bytes32[] private leaves;

    function setUp() external {
        four = equalSigners(4, "validator");
        setUpWith(four);
        vault = vaultFor(address(eth), tokenList());
    }

    function vaultFor(address token, address[] memory list) private returns (Settlement) {
        return newSettlement(GENESIS, EPOCH, hashOf(EPOCH, wordsOf(four)), list, token);
    }

    // --- The log (R1)

    function testStartsWithNothing() external view {
        assertEq(vault.stakeToken(), address(eth));
        assertEq(vault.stakeOf(ALICE), 0);
        assertEq(uint256(vault.stakeCheckpoint(ALICE)), 0);
        assertFalse(vault.isRegistered(ALICE));
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzzChainsStakeAndDeposits(uint256[] calldata draws, bytes calldata text)
        external
    {
        bytes32 hash = GENESIS;
        bytes memory identity = text.length == 0 ? ME : text[:text.length % 512];
        if (identity.length == 0) identity = ME;
        for (uint64 i; i < draws.length; ++i) {
            uint256 draw = uint256(keccak256(abi.encode(draws[i], i)));
            uint256 amount = bound(draw >> 8, 1, type(uint96).max);
            uint8 kind = uint8(draw % 6);
            if (kind == REGISTER && vault.isRegistered(ALICE)) kind = ADD;
            if (kind == 0) {
                hash = keccak256(abi.encode(hash, i, address(usdc), BOB, uint16(0), amount));
                assertEq(depositBy(ALICE, usdc, amount, BOB), i);
            } else {
                if (kind > REMOVE) amount = 0;
                bytes memory told = kind == REGISTER ? identity : bytes("");
                hash = entryOf(hash, i, ALICE, kind, amount, told);
                ask(ALICE, i, kind, amount, told, hash);
            }
            assertEq(vault.depositHash(), hash);
            assertEq(vault.depositCount(), i + 1);
        }
    }

    /// @dev The same numbers make another hash as a deposit: it has a word less.
    function testAnEntryIsNoDeposit() external {
        stake(ALICE, 5);
        bytes32 word = keccak256("stake");
        bytes32 likeADeposit =
            keccak256(abi.encode(GENESIS, uint64(0), word, ALICE, REGISTER, uint256(5)));
        assertTrue(vault.depositHash() != likeADeposit);
        assertEq(vault.depositHash(), entryOf(GENESIS, 0, ALICE, REGISTER, 5, ME));
    }

    function testACheckpointCountsEntries() external {
        stake(ALICE, 5);
        Checkpoint memory c = checkpointOf(1);
        assertEq(c.depositCount, 1);
        c.depositCount = 2;
        bytes memory signatures = signaturesOf(four, 15, digestOf(c));
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(Checkpoints.WrongDepositCount.selector);
        vault.submitCheckpoint(c, set, 15, signatures);
        c.depositCount = 1;
        submitByAll(c, four);
    }

    // --- What is asked for (R2 to R5)

    function testTakesStakeInAndGivesNoneBack() external {
        stake(ALICE, 1_000);
        add(ALICE, 500);
        add(BOB, 1);
        assertEq(eth.balanceOf(address(vault)), 1_501);
        assertEq(vault.stakeOf(ALICE), 1_500);
        assertTrue(vault.isRegistered(ALICE));
        vm.prank(ALICE);
        vault.unstake(400);
        assertEq(vault.stakeOf(ALICE), 1_100);
        vm.prank(ALICE);
        vault.unjail();
        assertEq(vault.stakeOf(ALICE), 1_100);
        vm.prank(ALICE);
        vault.exit();
        assertEq(vault.stakeOf(ALICE), 0);
        assertEq(vault.stakeOf(BOB), 1);
        assertFalse(vault.isRegistered(ALICE));
        assertEq(eth.balanceOf(address(vault)), 1_501);
        assertEq(eth.balanceOf(ALICE), 0);
    }

    function testFuzzUnstakingStopsAtZero(uint128 staked, uint128 back) external {
        vm.assume(staked != 0 && back != 0);
        stake(ALICE, staked);
        vm.prank(ALICE);
        vault.unstake(back);
        assertEq(vault.stakeOf(ALICE), back < staked ? staked - back : 0);
    }

    function testAnAccountHasOneValidator() external {
        stake(ALICE, 5);
        fund(eth, ALICE, 5);
        vm.prank(ALICE);
        vm.expectRevert(Staking.AlreadyRegistered.selector);
        vault.register(5, ME);
        vm.prank(ALICE);
        vault.exit();
        vm.prank(ALICE);
        vault.register(5, ME);
        assertEq(vault.stakeOf(ALICE), 5);
    }

    /// @dev The validators of genesis are registered nowhere.
    function testUnknownOwnersMayAsk() external {
        add(ALICE, 3);
        vm.prank(ALICE);
        vault.unstake(7);
        vm.prank(ALICE);
        vault.exit();
        vm.prank(BOB);
        vault.unjail();
        assertEq(vault.depositCount(), 4);
        assertFalse(vault.isRegistered(ALICE));
    }

    function testRefusesIdentitiesOutOfBounds() external {
        fund(eth, ALICE, 10);
        vm.prank(ALICE);
        vm.expectRevert(Staking.WrongIdentity.selector);
        vault.register(5, "");
        vm.prank(ALICE);
        vm.expectRevert(Staking.WrongIdentity.selector);
        vault.register(5, new bytes(513));
        vm.prank(ALICE);
        vault.register(5, new bytes(512));
    }

    function testRefusesAmountsOutOfRange() external {
        uint256 amount = uint256(type(uint128).max) + 1;
        eth.mint(address(this), amount);
        eth.approve(address(vault), amount);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.register(0, ME);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.register(amount, ME);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.addStake(0);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.addStake(amount);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.unstake(0);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.unstake(amount);
        vault.addStake(amount - 1);
        vault.unstake(amount - 1);
        assertEq(vault.stakeOf(address(this)), 0);
    }

    function testRefusesWithoutAllowanceOrFunds() external {
        eth.mint(address(this), 5);
        vm.expectRevert();
        vault.register(5, ME);
        eth.approve(address(vault), 6);
        vm.expectRevert();
        vault.addStake(6);
        assertEq(vault.depositCount(), 0);
        assertEq(vault.stakeOf(address(this)), 0);
        assertFalse(vault.isRegistered(address(this)));
    }

    function testRefusesTokensThatKeepAFeeOrEnterAgain() external {
        OddToken odd = new OddToken();
        address[] memory list = new address[](1);
        list[0] = address(odd);
        vault = vaultFor(address(odd), list);
        odd.mint(address(this), 100);
        odd.approve(address(vault), 100);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.register(100, ME);
        odd.aim(vault);
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vault.addStake(100);
    }

    function testTakesTheStakeTokenOnly() external {
        fund(usdc, ALICE, 5);
        vm.prank(ALICE);
        vm.expectRevert();
        vault.register(5, ME);
        assertEq(usdc.balanceOf(ALICE), 5);
    }

    function testWithoutStaking() external {
        setUpWith(four);
        assertEq(vault.stakeToken(), address(0));
        vm.expectRevert(Staking.NoStaking.selector);
        vault.register(5, ME);
        vm.expectRevert(Staking.NoStaking.selector);
        vault.addStake(5);
        vm.expectRevert(Staking.NoStaking.selector);
        vault.unstake(5);
        vm.expectRevert(Staking.NoStaking.selector);
        vault.exit();
        vm.expectRevert(Staking.NoStaking.selector);
        vault.unjail();
        Checkpoint memory c = checkpointOf(1);
        c.stateRoot = stateLeaf(0, ALICE, 1000, address(0), 5);
        submitByAll(c, four);
        vm.expectRevert(Staking.NoStaking.selector);
        vault.proveStake(c, 0, ALICE, 5, new bytes32[](0));
        assertEq(depositBy(ALICE, usdc, 5, ALICE), 0);
    }

    function testConstructorRefusesAStakeTokenOffTheList() external {
        vm.expectRevert(abi.encodeWithSelector(Deposits.UnknownToken.selector, address(this)));
        vaultFor(address(this), tokenList());
    }

    // --- Proofs (R5, R6)

    /// forge-config: default.fuzz.runs = 64
    function testFuzzProvesWhatTheExchangeHas(uint256 drawn, uint256 seed, uint128 amount)
        external
    {
        uint64 index = grow(bound(drawn, 1, 40), seed, ALICE, amount);
        stake(ALICE, 77);
        Checkpoint memory c = submitted(3);
        bytes32[] memory proof = Tree.proof(leaves, index);
        vm.expectEmit();
        emit Staking.StakeProven(ALICE, amount, 3);
        vm.prank(BOB);
        vault.proveStake(c, index, ALICE, amount, proof);
        assertEq(vault.stakeOf(ALICE), amount);
        assertEq(uint256(vault.stakeCheckpoint(ALICE)), 3);
        assertTrue(vault.isRegistered(ALICE));
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzzRefusesWhatIsNotALeaf(uint256 drawn, uint256 seed, uint256 which) external {
        uint256 count = bound(drawn, 2, 40);
        uint64 index = grow(count, seed, ALICE, 1e18);
        Checkpoint memory c = submitted(1);
        bytes32[] memory proof = Tree.proof(leaves, index);
        address owner = ALICE;
        uint256 amount = 1e18;
        which %= 5;
        if (which == 0) amount += 1;
        if (which == 1) owner = BOB;
        if (which == 2) index = uint64((index + 1) % count);
        if (which == 3) proof = new bytes32[](0);
        if (which == 4) proof[seed % proof.length] ^= bytes32(uint256(1) << (seed % 256));
        vm.expectRevert(Checkpoints.WrongProof.selector);
        vault.proveStake(c, index, owner, amount, proof);
    }

    function testRefusesOtherSubaccountsTokensAndTrees() external {
        bytes32[4] memory wrong = [
            stateLeaf(0, ALICE, 1001, address(eth), 5),
            stateLeaf(0, ALICE, 0, address(eth), 5),
            stateLeaf(0, ALICE, 1000, address(usdc), 5),
            keccak256(abi.encode(uint64(0), ALICE, uint16(1000), address(eth), uint256(5)))
        ];
        for (uint64 i; i < wrong.length; ++i) {
            Checkpoint memory c = checkpointOf(i + 1);
            c.stateRoot = wrong[i];
            c.withdrawalRoot = stateLeaf(0, ALICE, 1000, address(eth), 5);
            c.feeRoot = c.withdrawalRoot;
            c.withdrawalCount = 1;
            submitByAll(c, four);
            vm.expectRevert(Checkpoints.WrongProof.selector);
            vault.proveStake(c, 0, ALICE, 5, new bytes32[](0));
        }
    }

    function testOnlyNewerCheckpointsProve() external {
        Checkpoint memory first = proofOf(1, 10);
        Checkpoint memory second = proofOf(2, 20);
        Checkpoint memory third = proofOf(3, 30);
        vault.proveStake(second, 0, ALICE, 20, new bytes32[](0));
        vm.expectRevert(Staking.StaleProof.selector);
        vault.proveStake(first, 0, ALICE, 10, new bytes32[](0));
        vm.expectRevert(Staking.StaleProof.selector);
        vault.proveStake(second, 0, ALICE, 20, new bytes32[](0));
        vault.proveStake(third, 0, ALICE, 30, new bytes32[](0));
        assertEq(vault.stakeOf(ALICE), 30);
    }

    /// @dev What the owner asked for after the checkpoint would be lost.
    function testAProofHasTakenInAllRequests() external {
        stake(ALICE, 100);
        Checkpoint memory before = proofOf(1, 100);
        vm.prank(ALICE);
        vault.unstake(60);
        Checkpoint memory blind = proofOf(2, 100);
        blind.number = 3;
        blind.height = 30;
        blind.depositCount = 1;
        submitByAll(blind, four);
        vm.expectRevert(Staking.StaleProof.selector);
        vault.proveStake(before, 0, ALICE, 100, new bytes32[](0));
        vm.expectRevert(Staking.StaleProof.selector);
        vault.proveStake(blind, 0, ALICE, 100, new bytes32[](0));
        // What others ask for is no obstacle.
        Checkpoint memory c = proofOf(4, 40);
        stake(BOB, 100);
        vault.proveStake(c, 0, ALICE, 40, new bytes32[](0));
        assertEq(vault.stakeOf(ALICE), 40);
    }

    function testASlashCanTakeEverything() external {
        stake(ALICE, 100);
        vault.proveStake(proofOf(1, 0), 0, ALICE, 0, new bytes32[](0));
        assertEq(vault.stakeOf(ALICE), 0);
        assertTrue(vault.isRegistered(ALICE));
    }

    function testRefusesAmountsThatNobodyHas() external {
        uint256 amount = uint256(type(uint128).max) + 1;
        Checkpoint memory c = proofOf(1, amount);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.proveStake(c, 0, ALICE, amount, new bytes32[](0));
    }

    function testRefusesACheckpointNotTaken() external {
        Checkpoint memory c = proofOf(1, 5);
        c.timeMs += 1;
        vm.expectRevert(Checkpoints.NotCheckpointed.selector);
        vault.proveStake(c, 0, ALICE, 5, new bytes32[](0));
    }

    // --- Asking

    function stake(address owner, uint256 amount) private {
        fund(eth, owner, amount);
        vm.prank(owner);
        vault.register(amount, ME);
    }

    function add(address owner, uint256 amount) private {
        fund(eth, owner, amount);
        vm.prank(owner);
        vault.addStake(amount);
    }

    function ask(
        address owner,
        uint64 index,
        uint8 kind,
        uint256 amount,
        bytes memory identity,
        bytes32 hash
    ) private {
        if (kind < REMOVE) fund(eth, owner, amount);
        vm.expectEmit();
        emit Staking.StakeChanged(index, owner, kind, amount, identity, hash);
        vm.prank(owner);
        if (kind == REGISTER) vault.register(amount, identity);
        if (kind == ADD) vault.addStake(amount);
        if (kind == REMOVE) vault.unstake(amount);
        if (kind == EXIT) vault.exit();
        if (kind == UNJAIL) vault.unjail();
    }

    function entryOf(
        bytes32 hash,
        uint64 index,
        address owner,
        uint8 kind,
        uint256 amount,
        bytes memory identity
    ) private pure returns (bytes32) {
        bytes32 word = keccak256("stake");
        return keccak256(abi.encode(hash, index, word, owner, kind, amount, keccak256(identity)));
    }

    // --- Making trees

    function stateLeaf(uint64 index, address owner, uint16 sub, address token, uint256 amount)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(keccak256(abi.encode(index, owner, sub, token, amount))));
    }

    /// @dev A tree of noise with one leaf of stake in it; returns its place.
    function grow(uint256 count, uint256 seed, address owner, uint256 amount)
        private
        returns (uint64 place)
    {
        place = uint64(seed % count);
        for (uint64 i; i < count; ++i) {
            address who = i == place ? owner : address(uint160(seed) + i);
            uint256 has = i == place ? amount : i;
            leaves.push(stateLeaf(i, who, 1000, address(eth), has));
        }
    }

    function submitted(uint64 number) private returns (Checkpoint memory c) {
        c = checkpointOf(number);
        c.stateRoot = Tree.root(leaves);
        submitByAll(c, four);
    }

    /// @dev Submit a checkpoint whose state is one leaf: what ALICE has staked.
    function proofOf(uint64 number, uint256 amount) private returns (Checkpoint memory c) {
        c = checkpointOf(number);
        c.stateRoot = stateLeaf(0, ALICE, 1000, address(eth), amount);
        submitByAll(c, four);
    }
}
