// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../src/Checkpoint.sol";
import {Validators} from "../src/Validators.sol";
import {Fixture} from "./Fixture.sol";

contract HandoverTest is Fixture {
    uint256 private constant ALL = 15;
    uint64 private constant NEXT = EPOCH + 3;

    Signers private four;
    Signers private five;
    bytes32 private nextHash;

    function setUp() external {
        four = equalSigners(4, "validator");
        five = equalSigners(5, "next");
        setUpWith(four);
        nextHash = hashOf(NEXT, wordsOf(five));
    }

    function testHandsOver() external {
        bytes memory signatures = signaturesOf(four, 7, digestOf(EPOCH, NEXT, nextHash));
        vm.expectEmit();
        emit Validators.ValidatorsRotated(NEXT, nextHash);
        vault.rotateValidators(NEXT, nextHash, wordsOf(four), 7, signatures);
        assertEq(vault.epoch(), NEXT);
        assertEq(vault.validatorSetHash(), nextHash);
    }

    function testOnlyTheNextSetSignsAfterwards() external {
        rotate();
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(Validators.WrongEpoch.selector);
        vault.submitCheckpoint(c, set, ALL, signatures);
        c.epoch = NEXT;
        signatures = signaturesOf(four, ALL, digestOf(c));
        vm.expectRevert(Validators.WrongValidatorSet.selector);
        vault.submitCheckpoint(c, set, ALL, signatures);
        submitByAll(c, five);
    }

    function testHandsOverOnceOnly() external {
        rotate();
        bytes memory signatures = signaturesOf(four, ALL, digestOf(EPOCH, NEXT, nextHash));
        refuse(NEXT, nextHash, ALL, signatures, Validators.WrongEpoch.selector);
        // Even if the same set came back: what was signed names the epoch that handed over.
        bytes32 backHash = hashOf(NEXT + 1, wordsOf(four));
        bytes32 digest = digestOf(NEXT, NEXT + 1, backHash);
        vault.rotateValidators(
            NEXT + 1, backHash, wordsOf(five), 31, signaturesOf(five, 31, digest)
        );
        signatures = signaturesOf(four, ALL, digestOf(EPOCH, NEXT + 2, nextHash));
        refuse(NEXT + 2, nextHash, ALL, signatures, Validators.WrongSignature.selector);
    }

    function testFuzzRefusesOldEpochs(uint64 nextEpoch) external {
        nextEpoch = uint64(bound(nextEpoch, 0, EPOCH));
        bytes memory signatures = signaturesOf(four, ALL, digestOf(EPOCH, nextEpoch, nextHash));
        refuse(nextEpoch, nextHash, ALL, signatures, Validators.WrongEpoch.selector);
    }

    function testRefusesAZeroHash() external {
        bytes memory signatures = signaturesOf(four, ALL, digestOf(EPOCH, NEXT, 0));
        refuse(NEXT, 0, ALL, signatures, Validators.WrongValidatorSet.selector);
    }

    function testNeedsAQuorum() external {
        bytes memory signatures = signaturesOf(four, 3, digestOf(EPOCH, NEXT, nextHash));
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(abi.encodeWithSelector(Validators.NoQuorum.selector, 2, 4));
        vault.rotateValidators(NEXT, nextHash, set, 3, signatures);
    }

    function testFuzzRefusesAnotherSetOrEpoch(uint64 nextEpoch, bytes32 hash) external {
        nextEpoch = uint64(bound(nextEpoch, EPOCH + 1, type(uint64).max));
        vm.assume(hash != 0 && (nextEpoch != NEXT || hash != nextHash));
        bytes memory signatures = signaturesOf(four, ALL, digestOf(EPOCH, NEXT, nextHash));
        refuse(nextEpoch, hash, ALL, signatures, Validators.WrongSignature.selector);
    }

    /// @dev A signed checkpoint is no handover.
    function testRefusesSignaturesOfACheckpoint() external {
        bytes memory signatures = signaturesOf(four, ALL, digestOf(checkpointOf(1)));
        refuse(NEXT, nextHash, ALL, signatures, Validators.WrongSignature.selector);
    }

    function digestOf(uint64 from, uint64 to, bytes32 hash) private view returns (bytes32) {
        bytes32 structHash = keccak256(abi.encode(HANDOVER_TYPEHASH, GENESIS, from, to, hash));
        return typed(separatorOf(block.chainid, address(vault)), structHash);
    }

    function rotate() private {
        bytes32 digest = digestOf(EPOCH, NEXT, nextHash);
        vault.rotateValidators(NEXT, nextHash, wordsOf(four), ALL, signaturesOf(four, ALL, digest));
    }

    function refuse(
        uint64 nextEpoch,
        bytes32 hash,
        uint256 bitmap,
        bytes memory signatures,
        bytes4 reason
    ) private {
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(reason);
        vault.rotateValidators(nextEpoch, hash, set, bitmap, signatures);
    }
}
