// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

/// @title Validators
/// @notice Knows the current validator set by its hash alone and checks that a quorum signed.
/// @dev Rules:
///
/// V1. A validator is one word: its address in the high 20 bytes, its power in the low 12. The set
///     is `keccak256(abi.encode(epoch, words))`, in the order of the exchange; callers bring the
///     words along, since calldata is cheaper than storage.
/// V2. A quorum is more than two thirds of all power: `signed * 3 > total * 2`.
/// V3. Bit i of the bitmap says that validator i signed. Signatures follow in the order of the set,
///     one of 64 bytes (EIP-2098) for each bit that is set. So each counts once, and there is one
///     way only to write down a choice of signers.
/// V4. `s` is in the lower half of the curve's order: nobody can turn a signature into another one.
/// V5. Everything signed is EIP-712 typed data under this chain's id and this contract's address,
///     and names the genesis of the exchange and the epoch.
/// V6. Epochs only increase. The current set hands over to the next one; nobody else can.
abstract contract Validators is EIP712 {
    bytes32 private constant HANDOVER_TYPEHASH = keccak256(
        "Handover(bytes32 genesisHash,uint64 epoch,uint64 nextEpoch,bytes32 nextSetHash)"
    );

    uint256 private constant SIGNATURE_BYTES = 64;

    /// @notice Hash of the genesis document of the exchange that this contract settles.
    bytes32 public immutable genesisHash;

    /// @notice Hash of the current validator set (V1).
    bytes32 public validatorSetHash;

    /// @notice Epoch of the current validator set.
    uint64 public epoch;

    /// @notice Another validator set has taken over.
    /// @param epoch The first epoch of the new set.
    /// @param validatorSetHash Its hash (V1).
    event ValidatorsRotated(uint64 indexed epoch, bytes32 validatorSetHash);

    /// @notice The genesis hash is zero.
    error WrongGenesisHash();

    /// @notice Signed for another epoch than the current one, or a handover to an old epoch.
    error WrongEpoch();

    /// @notice The words are not those of the current set, or the next set's hash is zero.
    error WrongValidatorSet();

    /// @notice The bitmap names validators beyond the end of the set.
    error WrongBitmap();

    /// @notice A signature is not that of the validator in its place, or there are more or fewer
    /// signatures than bits.
    error WrongSignature();

    /// @notice Two thirds of the power or less have signed.
    /// @param signed The power that signed.
    /// @param total The power of the whole set.
    error NoQuorum(uint256 signed, uint256 total);

    constructor(bytes32 genesisHash_, uint64 epoch_, bytes32 validatorSetHash_)
        EIP712("OmniNode Settlement", "1")
    {
        require(genesisHash_ != 0, WrongGenesisHash());
        require(validatorSetHash_ != 0, WrongValidatorSet());
        genesisHash = genesisHash_;
        epoch = epoch_;
        validatorSetHash = validatorSetHash_;
    }

    /// @notice Hand over to the next validator set (V6). Anyone may bring the signatures.
    /// @param nextEpoch The first epoch of the next set; larger than the current one.
    /// @param nextSetHash The next set's hash (V1).
    /// @param set The current set.
    /// @param bitmap Who of it signed (V3).
    /// @param signatures Their signatures of the `Handover` (V3).
    function rotateValidators(
        uint64 nextEpoch,
        bytes32 nextSetHash,
        bytes32[] calldata set,
        uint256 bitmap,
        bytes calldata signatures
    ) external {
        uint64 current = epoch;
        require(nextEpoch > current, WrongEpoch());
        require(nextSetHash != 0, WrongValidatorSet());
        bytes32 digest = _hashTypedDataV4(
            keccak256(abi.encode(HANDOVER_TYPEHASH, genesisHash, current, nextEpoch, nextSetHash))
        );
        _requireQuorum(digest, current, set, bitmap, signatures);
        epoch = nextEpoch;
        validatorSetHash = nextSetHash;
        emit ValidatorsRotated(nextEpoch, nextSetHash);
    }

    /// @dev Revert unless a quorum of the current set (V1, V2) signed `digest` (V3, V4).
    /// @param digest What they signed.
    /// @param current The current epoch, read by the caller already.
    /// @param set The current set.
    /// @param bitmap Who signed.
    /// @param signatures Their signatures.
    function _requireQuorum(
        bytes32 digest,
        uint64 current,
        bytes32[] calldata set,
        uint256 bitmap,
        bytes calldata signatures
    ) internal view {
        require(keccak256(abi.encode(current, set)) == validatorSetHash, WrongValidatorSet());
        require(bitmap >> set.length == 0, WrongBitmap());
        uint256 total;
        uint256 signed;
        uint256 offset;
        // Nothing overflows: powers have 96 bits, and calldata bounds their number. A shift by more
        // than 255 gives 0, so validators from the 257th on count in the total and can not sign.
        unchecked {
            for (uint256 i; i < set.length; ++i) {
                bytes32 word = set[i];
                uint256 power = uint96(uint256(word));
                total += power;
                if (bitmap & (1 << i) == 0) continue;
                require(
                    _recover(digest, signatures, offset) == address(bytes20(word)), WrongSignature()
                );
                signed += power;
                offset += SIGNATURE_BYTES;
            }
            require(offset == signatures.length, WrongSignature());
            require(signed * 3 > total * 2, NoQuorum(signed, total));
        }
    }

    /// @dev Return who made the signature at `offset`; revert if nobody did. What lies beyond the
    /// end of `signatures` is never accepted: the caller compares their length at the end.
    function _recover(bytes32 digest, bytes calldata signatures, uint256 offset)
        private
        pure
        returns (address signer)
    {
        bytes32 r;
        bytes32 vs;
        assembly ("memory-safe") {
            let place := add(signatures.offset, offset)
            r := calldataload(place)
            vs := calldataload(add(place, 0x20))
        }
        ECDSA.RecoverError failure;
        (signer, failure,) = ECDSA.tryRecover(digest, r, vs);
        require(failure == ECDSA.RecoverError.NoError, WrongSignature());
    }
}
