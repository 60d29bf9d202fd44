// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../src/Checkpoint.sol";
import {Checkpoints} from "../src/Checkpoints.sol";
import {Validators} from "../src/Validators.sol";
import {Fixture} from "./Fixture.sol";

contract CheckpointsTest is Fixture {
    uint256 private constant ALL = 15;

    Signers private four;

    function setUp() external {
        four = equalSigners(4, "validator");
        setUpWith(four);
    }

    function testStartsEmpty() external view {
        (uint64 number, uint64 height, uint64 timeMs) = vault.latestCheckpoint();
        assertEq(number + height + timeMs, 0);
        assertEq(vault.commitment(0), 0);
        assertEq(vault.epoch(), EPOCH);
        assertEq(vault.validatorSetHash(), hashOf(EPOCH, wordsOf(four)));
    }

    function testFuzzKeepsWhatWasSigned(Checkpoint memory c) external {
        depositBy(ALICE, usdc, 5, ALICE);
        c.number = uint64(bound(c.number, 1, type(uint64).max));
        c.height = uint64(bound(c.height, 1, type(uint64).max));
        c.epoch = EPOCH;
        c.depositCount = uint64(bound(c.depositCount, 0, 1));
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        vm.expectEmit();
        emit Checkpoints.Checkpointed(
            c.number,
            c.height,
            c.stateRoot,
            c.withdrawalRoot,
            c.withdrawalCount,
            c.feeRoot,
            c.depositCount,
            c.depositHash,
            c.epoch,
            c.timeMs
        );
        vault.submitCheckpoint(c, wordsOf(four), ALL, signatures);
        (uint64 number, uint64 height, uint64 timeMs) = vault.latestCheckpoint();
        assertEq(number, c.number);
        assertEq(height, c.height);
        assertEq(timeMs, c.timeMs);
        assertEq(vault.commitment(c.number % 256), keccak256(abi.encode(c)));
    }

    // --- Order (C2 to C4)

    function testRefusesTheSameAgain() external {
        Checkpoint memory c = checkpointOf(1);
        submitByAll(c, four);
        refuse(c, ALL, Checkpoints.StaleCheckpoint.selector);
    }

    function testFuzzRefusesOlder(uint64 number, uint64 height) external {
        Checkpoint memory c = checkpointOf(100);
        submitByAll(c, four);
        c.number = number;
        c.height = height;
        if (number > 100 && height > 1000) submitByAll(c, four);
        else refuse(c, ALL, Checkpoints.StaleCheckpoint.selector);
    }

    function testRefusesNumberZero() external {
        Checkpoint memory c = checkpointOf(0);
        c.height = 1;
        refuse(c, ALL, Checkpoints.StaleCheckpoint.selector);
    }

    function testNumbersMayBeLeftOut() external {
        submitByAll(checkpointOf(3), four);
        submitByAll(checkpointOf(1_000), four);
    }

    function testRefusesFewerWithdrawals() external {
        Checkpoint memory c = checkpointOf(1);
        c.withdrawalCount = 9;
        submitByAll(c, four);
        c = checkpointOf(2);
        c.withdrawalCount = 8;
        refuse(c, ALL, Checkpoints.WrongWithdrawalCount.selector);
        c.withdrawalCount = 9;
        submitByAll(c, four);
    }

    function testRefusesDepositsThatAreNotThere() external {
        depositBy(ALICE, usdc, 5, ALICE);
        Checkpoint memory c = checkpointOf(1);
        c.depositCount = 2;
        refuse(c, ALL, Checkpoints.WrongDepositCount.selector);
    }

    // --- Quorum (V2)

    function testOneSignerShortOfAQuorum() external {
        refuseFor(checkpointOf(1), 3, noQuorum(2, 4));
        submit(checkpointOf(1), four, 7);
    }

    function testNobodySigned() external {
        refuseFor(checkpointOf(1), 0, noQuorum(0, 4));
    }

    function testExactlyTwoThirdsAreNotEnough() external {
        Signers memory three = equalSigners(3, "validator");
        setUpWith(three);
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(three, 6, digestOf(c));
        vm.expectRevert(noQuorum(2, 3));
        vault.submitCheckpoint(c, wordsOf(three), 6, signatures);
        submit(c, three, 7);
    }

    function testFuzzQuorumIsByPower(uint96[7] calldata powers, uint256 bitmap) external {
        Signers memory signers = equalSigners(7, "weighted");
        bitmap %= 128;
        uint256 signed;
        uint256 total;
        for (uint256 i; i < 7; ++i) {
            signers.powers[i] = powers[i];
            total += powers[i];
            if (bitmap >> i & 1 == 1) signed += powers[i];
        }
        setUpWith(signers);
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(signers, bitmap, digestOf(c));
        if (signed * 3 <= total * 2) vm.expectRevert(noQuorum(signed, total));
        vault.submitCheckpoint(c, wordsOf(signers), bitmap, signatures);
    }

    function testASetWithoutPowerSignsNothing() external {
        Signers memory signers = equalSigners(4, "validator");
        delete signers.powers;
        signers.powers = new uint96[](4);
        setUpWith(signers);
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(signers, ALL, digestOf(c));
        vm.expectRevert(noQuorum(0, 0));
        vault.submitCheckpoint(c, wordsOf(signers), ALL, signatures);
    }

    function testAnEmptySetSignsNothing() external {
        Signers memory nobody = equalSigners(0, "validator");
        setUpWith(nobody);
        Checkpoint memory c = checkpointOf(1);
        vm.expectRevert(noQuorum(0, 0));
        vault.submitCheckpoint(c, wordsOf(nobody), 0, "");
    }

    function testALargeSet() external {
        Signers memory many = equalSigners(256, "validator");
        setUpWith(many);
        submit(checkpointOf(1), many, type(uint256).max);
        submit(checkpointOf(2), many, type(uint256).max >> 85);
        Checkpoint memory c = checkpointOf(3);
        bytes memory signatures = signaturesOf(many, type(uint256).max >> 86, digestOf(c));
        vm.expectRevert(noQuorum(170, 256));
        vault.submitCheckpoint(c, wordsOf(many), type(uint256).max >> 86, signatures);
    }

    function testValidatorsBeyondTheBitmapCountAndCanNotSign() external {
        Signers memory many = equalSigners(257, "validator");
        many.powers[256] = 1_000;
        setUpWith(many);
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(many, type(uint256).max, digestOf(c));
        vm.expectRevert(noQuorum(256, 1_256));
        vault.submitCheckpoint(c, wordsOf(many), type(uint256).max, signatures);
    }

    // --- The set (V1)

    function testRefusesAnotherSet() external {
        Signers memory others = equalSigners(4, "other");
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(others, ALL, digestOf(c));
        vm.expectRevert(Validators.WrongValidatorSet.selector);
        vault.submitCheckpoint(c, wordsOf(others), ALL, signatures);
    }

    function testRefusesTheSetWithOtherPowersOrderOrLength() external {
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        bytes32[] memory set = wordsOf(four);
        set[0] = bytes32(uint256(set[0]) + 1);
        expectWrongSet(c, set, signatures);
        set = wordsOf(four);
        (set[0], set[1]) = (set[1], set[0]);
        expectWrongSet(c, set, signatures);
        expectWrongSet(c, wordsOf(equalSigners(3, "validator")), signatures);
        expectWrongSet(c, wordsOf(equalSigners(5, "validator")), signatures);
        expectWrongSet(c, new bytes32[](0), signatures);
    }

    function testFuzzRefusesBitsBeyondTheSet(uint256 bitmap) external {
        bitmap = bound(bitmap, 16, type(uint256).max);
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        vm.expectRevert(Validators.WrongBitmap.selector);
        vault.submitCheckpoint(c, wordsOf(four), bitmap, signatures);
    }

    function testRefusesAnotherEpoch() external {
        Checkpoint memory c = checkpointOf(1);
        c.epoch = EPOCH + 1;
        refuse(c, ALL, Validators.WrongEpoch.selector);
        c.epoch = EPOCH - 1;
        refuse(c, ALL, Validators.WrongEpoch.selector);
    }

    function refuse(Checkpoint memory c, uint256 bitmap, bytes4 reason) private {
        refuseFor(c, bitmap, abi.encodePacked(reason));
    }

    function refuseFor(Checkpoint memory c, uint256 bitmap, bytes memory reason) private {
        bytes memory signatures = signaturesOf(four, bitmap, digestOf(c));
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(reason);
        vault.submitCheckpoint(c, set, bitmap, signatures);
    }

    function expectWrongSet(Checkpoint memory c, bytes32[] memory set, bytes memory signatures)
        private
    {
        vm.expectRevert(Validators.WrongValidatorSet.selector);
        vault.submitCheckpoint(c, set, ALL, signatures);
    }

    function noQuorum(uint256 signed, uint256 total) private pure returns (bytes memory) {
        return abi.encodeWithSelector(Validators.NoQuorum.selector, signed, total);
    }
}
