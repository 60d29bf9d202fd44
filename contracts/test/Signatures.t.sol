// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../src/Checkpoint.sol";
import {Settlement} from "../src/Settlement.sol";
import {Validators} from "../src/Validators.sol";
import {Fixture} from "./Fixture.sol";

/// @dev What is not a signature of the right validator, over the right thing, in the right place.
contract SignaturesTest is Fixture {
    uint256 private constant ORDER =
        0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;
    uint256 private constant ALL = 15;
    uint256 private constant LENGTH = 64;

    Signers private four;

    function setUp() external {
        four = equalSigners(4, "validator");
        setUpWith(four);
    }

    // --- Form and order (V3)

    function testRefusesSignaturesInAnotherOrder() external {
        Checkpoint memory c = checkpointOf(1);
        bytes[4] memory parts = partsOf(digestOf(c));
        refuse(c, ALL, bytes.concat(parts[1], parts[0], parts[2], parts[3]));
        refuse(c, ALL, bytes.concat(parts[3], parts[2], parts[1], parts[0]));
        accept(c, ALL, bytes.concat(parts[0], parts[1], parts[2], parts[3]));
    }

    function testRefusesOneSignatureForTwo() external {
        Checkpoint memory c = checkpointOf(1);
        bytes[4] memory parts = partsOf(digestOf(c));
        refuse(c, ALL, bytes.concat(parts[0], parts[0], parts[0], parts[0]));
        refuse(c, 7, bytes.concat(parts[0], parts[1], parts[1]));
    }

    function testRefusesMoreOrFewerSignaturesThanBits() external {
        Checkpoint memory c = checkpointOf(1);
        bytes[4] memory parts = partsOf(digestOf(c));
        bytes memory three = bytes.concat(parts[0], parts[1], parts[2]);
        refuse(c, ALL, three);
        refuse(c, 7, bytes.concat(three, parts[3]));
        refuse(c, 7, bytes.concat(three, hex"00"));
        refuse(c, 7, "");
        refuse(c, 14, three);
        accept(c, 7, three);
    }

    function testFuzzRefusesATruncatedSignature(uint256 cut) external {
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        cut = bound(cut, 1, signatures.length - 1);
        assembly ("memory-safe") {
            mstore(signatures, cut)
        }
        refuse(c, ALL, signatures);
    }

    /// @dev Memory is encoded with padding, and a caller may well put a signature there. So the
    /// calldata is put together by hand here: the last signature lies beyond the declared length.
    function testRefusesSignaturesBeyondTheDeclaredLength() external {
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        bytes memory data =
            abi.encodeCall(vault.submitCheckpoint, (c, wordsOf(four), ALL, signatures));
        uint256 lengthAt = data.length - signatures.length;
        assembly ("memory-safe") {
            mstore(add(data, lengthAt), 192)
        }
        (bool accepted, bytes memory reason) = address(vault).call(data);
        assertFalse(accepted);
        assertEq(bytes32(reason), bytes32(Validators.WrongSignature.selector));
        assembly ("memory-safe") {
            mstore(add(data, lengthAt), 256)
        }
        (accepted,) = address(vault).call(data);
        assertTrue(accepted);
    }

    function testFuzzRefusesAnyOtherBit(uint256 bit) external {
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        bit = bound(bit, 0, signatures.length * 8 - 1);
        signatures[bit / 8] ^= bytes1(uint8(1 << (bit % 8)));
        refuse(c, ALL, signatures);
    }

    function testFuzzRefusesNoise(bytes32[8] calldata noise) external {
        refuse(checkpointOf(1), ALL, abi.encodePacked(noise));
    }

    // --- Low s (V4)

    /// @dev 64 bytes have room for s up to 2^255 - 1, a little more than half the order. This takes
    /// such an s, finds whose signature it is, makes that one the validator, and is refused still.
    function testRefusesHighS() external {
        Checkpoint memory c = checkpointOf(1);
        c.epoch = EPOCH + 1;
        bytes32 digest = digestOf(c);
        (, bytes32 r,) = vm.sign(1, digest);
        uint256 high = ORDER / 2 + 1;
        address signer = ecrecover(digest, 27, r, bytes32(high));
        assertTrue(signer != address(0));
        assertEq(ecrecover(digest, 28, r, bytes32(ORDER - high)), signer);

        bytes32[] memory set = new bytes32[](1);
        set[0] = wordOf(signer, 1);
        rotate(EPOCH + 1, hashOf(EPOCH + 1, set));
        vm.expectRevert(Validators.WrongSignature.selector);
        vault.submitCheckpoint(c, set, 1, compact(27, r, bytes32(high)));
        vault.submitCheckpoint(c, set, 1, compact(28, r, bytes32(ORDER - high)));
    }

    function testRefusesTheMirroredSignature() external {
        Checkpoint memory c = checkpointOf(1);
        bytes32 digest = digestOf(c);
        bytes[4] memory parts = partsOf(digest);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(four.keys[0], digest);
        bytes32 mirrored = bytes32(ORDER - uint256(s));
        assertEq(ecrecover(digest, 55 - v, r, mirrored), vm.addr(four.keys[0]));
        bytes memory rest = bytes.concat(parts[1], parts[2], parts[3]);
        refuse(c, ALL, bytes.concat(compact(27, r, mirrored), rest));
        refuse(c, ALL, bytes.concat(compact(28, r, mirrored), rest));
    }

    /// @dev `ecrecover` answers nonsense with address zero, which must not pass for a validator.
    function testAddressZeroNeverSigns() external {
        bytes32[] memory set = new bytes32[](1);
        set[0] = wordOf(address(0), 1);
        rotate(EPOCH + 1, hashOf(EPOCH + 1, set));
        Checkpoint memory c = checkpointOf(1);
        c.epoch = EPOCH + 1;
        vm.expectRevert(Validators.WrongSignature.selector);
        vault.submitCheckpoint(c, set, 1, new bytes(LENGTH));
    }

    // --- What is signed (V5)

    function testRefusesSignaturesForAnotherChain() external {
        Checkpoint memory c = checkpointOf(1);
        bytes32 structHash = structHashOf(GENESIS, c);
        bytes32 digest = typed(separatorOf(block.chainid + 1, address(vault)), structHash);
        refuse(c, ALL, signaturesOf(four, ALL, digest));
    }

    function testRefusesOldSignaturesAfterTheChainHasSplit() external {
        Checkpoint memory c = checkpointOf(1);
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        vm.chainId(block.chainid + 1);
        refuse(c, ALL, signatures);
        submitByAll(c, four);
    }

    function testRefusesSignaturesForAnotherContract() external {
        Checkpoint memory c = checkpointOf(1);
        Settlement other = newSettlement(GENESIS, EPOCH, vault.validatorSetHash(), tokenList());
        bytes32 digest = typed(separatorOf(block.chainid, address(other)), structHashOf(GENESIS, c));
        bytes memory signatures = signaturesOf(four, ALL, digest);
        refuse(c, ALL, signatures);
        other.submitCheckpoint(c, wordsOf(four), ALL, signatures);
    }

    function testRefusesSignaturesForAnotherGenesis() external {
        Checkpoint memory c = checkpointOf(1);
        bytes32 structHash = structHashOf(keccak256("another genesis"), c);
        bytes32 digest = typed(separatorOf(block.chainid, address(vault)), structHash);
        refuse(c, ALL, signaturesOf(four, ALL, digest));
    }

    function testRefusesSignaturesForAnotherEpoch() external {
        Checkpoint memory c = checkpointOf(1);
        c.epoch = EPOCH - 1;
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        c.epoch = EPOCH;
        refuse(c, ALL, signatures);
    }

    function testFuzzRefusesAnyOtherContent(uint256 field, uint64 amount) external {
        Checkpoint memory c = checkpointOf(1);
        c.withdrawalCount = 1;
        bytes memory signatures = signaturesOf(four, ALL, digestOf(c));
        if (amount == 0) amount = 1;
        field = field % 8;
        unchecked {
            if (field == 0) c.number = uint64(bound(c.number + amount, 2, type(uint64).max));
            if (field == 1) c.height = uint64(bound(c.height + amount, 11, type(uint64).max));
            if (field == 2) c.timeMs += amount;
            if (field == 3) c.stateRoot ^= bytes32(uint256(amount));
            if (field == 4) c.withdrawalRoot ^= bytes32(uint256(amount));
            if (field == 5) c.withdrawalCount += amount;
            if (field == 6) c.feeRoot ^= bytes32(uint256(amount));
            if (field == 7) c.depositHash ^= bytes32(uint256(amount));
        }
        refuse(c, ALL, signatures);
    }

    function rotate(uint64 nextEpoch, bytes32 nextHash) private {
        bytes32 structHash =
            keccak256(abi.encode(HANDOVER_TYPEHASH, GENESIS, EPOCH, nextEpoch, nextHash));
        bytes32 digest = typed(separatorOf(block.chainid, address(vault)), structHash);
        vault.rotateValidators(
            nextEpoch, nextHash, wordsOf(four), ALL, signaturesOf(four, ALL, digest)
        );
    }

    function partsOf(bytes32 digest) private view returns (bytes[4] memory parts) {
        for (uint256 i; i < 4; ++i) {
            parts[i] = signatureOf(four.keys[i], digest);
        }
    }

    function refuse(Checkpoint memory c, uint256 bitmap, bytes memory signatures) private {
        bytes32[] memory set = wordsOf(four);
        vm.expectRevert(Validators.WrongSignature.selector);
        vault.submitCheckpoint(c, set, bitmap, signatures);
    }

    function accept(Checkpoint memory c, uint256 bitmap, bytes memory signatures) private {
        vault.submitCheckpoint(c, wordsOf(four), bitmap, signatures);
    }
}
