// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "./Checkpoint.sol";
import {Deposits} from "./Deposits.sol";
import {Validators} from "./Validators.sol";

/// @title Checkpoints
/// @notice Takes the exchange's signed checkpoints and keeps the commitments of the last 256.
/// @dev Rules:
///
/// C1. A checkpoint is signed by a quorum of the current set, in the current epoch (V1 to V5).
/// C2. Number and height increase with each checkpoint; numbers may be left out. So one that was
///     taken can not come again, and relaying twice does no harm.
/// C3. The withdrawal tree only grows.
/// C4. A checkpoint credits no deposit that is not here.
/// C5. Kept is `keccak256(abi.encode(checkpoint))` at `number % 256`; who needs the content brings
///     it along. A withdrawal proven against one checkpoint can be proven against all later ones.
abstract contract Checkpoints is Validators, Deposits {
    bytes32 private constant CHECKPOINT_TYPEHASH = keccak256(
        "Checkpoint(bytes32 genesisHash,uint64 number,uint64 epoch,uint64 height,uint64 timeMs,"
        "bytes32 stateRoot,bytes32 withdrawalRoot,uint64 withdrawalCount,bytes32 feeRoot,"
        "uint64 depositCount,bytes32 depositHash)"
    );

    uint256 private constant COMMITMENTS = 256;

    /// @dev What the next checkpoint is compared with (C2, C3); one storage slot.
    struct Latest {
        uint64 number;
        uint64 height;
        uint64 timeMs;
        uint64 withdrawalCount;
    }

    Latest private _latest;
    bytes32[COMMITMENTS] private _commitments;

    /// @notice A checkpoint was taken; its content can be read from this event alone.
    event Checkpointed(
        uint64 indexed number,
        uint64 indexed height,
        bytes32 stateRoot,
        bytes32 withdrawalRoot,
        uint64 withdrawalCount,
        bytes32 feeRoot,
        uint64 depositCount,
        bytes32 depositHash,
        uint64 epoch,
        uint64 timeMs
    );

    /// @notice A checkpoint with this or a larger number or height was taken before (C2).
    error StaleCheckpoint();

    /// @notice The checkpoint has fewer withdrawals than the one before it (C3).
    error WrongWithdrawalCount();

    /// @notice The checkpoint credits more deposits than there are (C4).
    error WrongDepositCount();

    /// @notice The checkpoint was never taken, or 256 numbers have passed since.
    error NotCheckpointed();

    /// @notice The proof does not lead from the leaf to the checkpoint's root, or the leaf is not one
    /// that the checkpoint counts.
    error WrongProof();

    /// @notice The newest checkpoint; zeros before the first.
    /// @return number Its number.
    /// @return height The height of its block.
    /// @return timeMs The time of its block in milliseconds of Unix time.
    function latestCheckpoint()
        external
        view
        returns (uint64 number, uint64 height, uint64 timeMs)
    {
        Latest memory latest = _latest;
        return (latest.number, latest.height, latest.timeMs);
    }

    /// @notice The commitment kept in a slot; zero when the slot was never used (C5).
    /// @param slot `number % 256` of a checkpoint.
    function commitment(uint256 slot) external view returns (bytes32) {
        return _commitments[slot];
    }

    /// @notice Bring a signed checkpoint. Anyone may.
    /// @param checkpoint The checkpoint (C1 to C4).
    /// @param set The current validator set (V1).
    /// @param bitmap Who of it signed (V3).
    /// @param signatures Their signatures of the `Checkpoint` (V3).
    function submitCheckpoint(
        Checkpoint calldata checkpoint,
        bytes32[] calldata set,
        uint256 bitmap,
        bytes calldata signatures
    ) external {
        Latest memory latest = _latest;
        require(
            checkpoint.number > latest.number && checkpoint.height > latest.height,
            StaleCheckpoint()
        );
        uint64 current = epoch;
        require(checkpoint.epoch == current, WrongEpoch());
        require(checkpoint.withdrawalCount >= latest.withdrawalCount, WrongWithdrawalCount());
        require(checkpoint.depositCount <= depositCount, WrongDepositCount());
        bytes32 digest = _hashTypedDataV4(
            // All fields have a fixed size: the struct's encoding is that of its fields in a row.
            keccak256(abi.encode(CHECKPOINT_TYPEHASH, genesisHash, checkpoint))
        );
        _requireQuorum(digest, current, set, bitmap, signatures);

        _latest = Latest({
            number: checkpoint.number,
            height: checkpoint.height,
            timeMs: checkpoint.timeMs,
            withdrawalCount: checkpoint.withdrawalCount
        });
        _commitments[checkpoint.number % COMMITMENTS] = keccak256(abi.encode(checkpoint));
        _announce(checkpoint);
    }

    /// @dev Emit the event; apart, because its fields fill the stack where there is no optimizer.
    function _announce(Checkpoint calldata checkpoint) private {
        emit Checkpointed(
            checkpoint.number,
            checkpoint.height,
            checkpoint.stateRoot,
            checkpoint.withdrawalRoot,
            checkpoint.withdrawalCount,
            checkpoint.feeRoot,
            checkpoint.depositCount,
            checkpoint.depositHash,
            checkpoint.epoch,
            checkpoint.timeMs
        );
    }

    /// @dev Revert unless the checkpoint is one of those kept (C5).
    /// @param checkpoint The whole checkpoint.
    function _requireCheckpointed(Checkpoint calldata checkpoint) internal view {
        require(
            _commitments[checkpoint.number % COMMITMENTS] == keccak256(abi.encode(checkpoint)),
            NotCheckpointed()
        );
    }
}
