// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../src/Checkpoint.sol";
import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Test} from "./Vm.sol";

/// @dev A settlement contract with two tokens and a set of validators whose keys are known. Digests
/// are put together here from their definition, not by asking the contract.
abstract contract Fixture is Test {
    bytes32 internal constant GENESIS = keccak256("genesis");
    uint64 internal constant EPOCH = 7;
    address internal constant ALICE = address(0xA11CE);
    address internal constant BOB = address(0xB0B);
    bytes32 internal constant DOMAIN_TYPEHASH = keccak256(
        "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
    );
    bytes32 internal constant CHECKPOINT_TYPEHASH = keccak256(
        "Checkpoint(bytes32 genesisHash,uint64 number,uint64 epoch,uint64 height,uint64 timeMs,bytes32 stateRoot,bytes32 withdrawalRoot,uint64 withdrawalCount,bytes32 feeRoot,uint64 depositCount,bytes32 depositHash)"
    );
    bytes32 internal constant HANDOVER_TYPEHASH = keccak256(
        "Handover(bytes32 genesisHash,uint64 epoch,uint64 nextEpoch,bytes32 nextSetHash)"
    );

    /// @dev Who signs: keys in the order of the set, with their powers.
    struct Signers {
        uint256[] keys;
        uint96[] powers;
    }

    Settlement internal vault;
    TestToken internal usdc;
    TestToken internal eth;

    function setUpWith(Signers memory signers) internal {
        usdc = newToken("USDC", 6);
        eth = newToken("ETH", 18);
        vault = newSettlement(GENESIS, EPOCH, hashOf(EPOCH, wordsOf(signers)), tokenList());
    }

    function tokenList() internal view returns (address[] memory list) {
        list = new address[](2);
        list[0] = address(usdc);
        list[1] = address(eth);
    }

    // --- Validators

    /// @dev Validators of power 1 with keys that belong to `salt`.
    function equalSigners(uint256 count, string memory salt)
        internal
        pure
        returns (Signers memory signers)
    {
        signers = Signers(new uint256[](count), new uint96[](count));
        for (uint256 i; i < count; ++i) {
            signers.keys[i] = uint256(keccak256(abi.encode(salt, i)));
            signers.powers[i] = 1;
        }
    }

    function wordOf(address validator, uint96 power) internal pure returns (bytes32) {
        return bytes32(uint256(uint160(validator)) << 96 | power);
    }

    function wordsOf(Signers memory signers) internal pure returns (bytes32[] memory words) {
        words = new bytes32[](signers.keys.length);
        for (uint256 i; i < words.length; ++i) {
            words[i] = wordOf(vm.addr(signers.keys[i]), signers.powers[i]);
        }
    }

    function hashOf(uint64 epoch, bytes32[] memory words) internal pure returns (bytes32) {
        return keccak256(abi.encode(epoch, words));
    }

    // --- Signatures

    function compact(uint8 v, bytes32 r, bytes32 s) internal pure returns (bytes memory) {
        return abi.encodePacked(r, uint256(s) | uint256(v - 27) << 255);
    }

    function signatureOf(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return compact(v, r, s);
    }

    function signaturesOf(Signers memory signers, uint256 bitmap, bytes32 digest)
        internal
        pure
        returns (bytes memory signatures)
    {
        for (uint256 i; i < signers.keys.length; ++i) {
            if (bitmap >> i & 1 == 1) {
                signatures = bytes.concat(signatures, signatureOf(signers.keys[i], digest));
            }
        }
    }

    function separatorOf(uint256 chain, address place) internal pure returns (bytes32) {
        bytes32 name = keccak256("OmniNode Settlement");
        return keccak256(abi.encode(DOMAIN_TYPEHASH, name, keccak256("1"), chain, place));
    }

    function typed(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(bytes.concat(hex"1901", separator, structHash));
    }

    function structHashOf(bytes32 genesis, Checkpoint memory c) internal pure returns (bytes32) {
        bytes memory head =
            abi.encode(CHECKPOINT_TYPEHASH, genesis, c.number, c.epoch, c.height, c.timeMs);
        bytes memory roots = abi.encode(c.stateRoot, c.withdrawalRoot, c.withdrawalCount, c.feeRoot);
        return keccak256(bytes.concat(head, roots, abi.encode(c.depositCount, c.depositHash)));
    }

    function digestOf(Checkpoint memory c) internal view returns (bytes32) {
        return typed(separatorOf(block.chainid, address(vault)), structHashOf(GENESIS, c));
    }

    // --- Checkpoints

    function checkpointOf(uint64 number) internal view returns (Checkpoint memory) {
        return Checkpoint({
            number: number,
            epoch: EPOCH,
            height: number * 10,
            timeMs: 1_700_000_000_000 + number,
            stateRoot: keccak256(abi.encode("state", number)),
            withdrawalRoot: 0,
            withdrawalCount: 0,
            feeRoot: keccak256(abi.encode("fees", number)),
            depositCount: vault.depositCount(),
            depositHash: vault.depositHash()
        });
    }

    function submit(Checkpoint memory c, Signers memory signers, uint256 bitmap) internal {
        vault.submitCheckpoint(
            c, wordsOf(signers), bitmap, signaturesOf(signers, bitmap, digestOf(c))
        );
    }

    function submitByAll(Checkpoint memory c, Signers memory signers) internal {
        submit(c, signers, (1 << signers.keys.length) - 1);
    }

    // --- Tokens

    /// @dev Give the account tokens and the vault's allowance for them.
    function fund(TestToken token, address account, uint256 amount) internal {
        token.mint(account, amount);
        vm.prank(account);
        token.approve(address(vault), amount);
    }

    function depositBy(address sender, TestToken token, uint256 amount, address account)
        internal
        returns (uint64)
    {
        fund(token, sender, amount);
        vm.prank(sender);
        return vault.deposit(address(token), amount, account, 0);
    }

    function withdrawalLeaf(uint64 index, address token, address recipient, uint256 amount)
        internal
        pure
        returns (bytes32)
    {
        bytes32 inner = keccak256(abi.encode(index, token, recipient, amount));
        return keccak256(abi.encode(inner));
    }
}
