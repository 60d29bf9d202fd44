// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The exchange after one of its blocks, as more than two thirds of the validators' power
/// signed it.
/// @param number Counts checkpoints; the first is 1.
/// @param epoch The epoch of the validator set that signed.
/// @param height Height of the block.
/// @param timeMs Time of the block in milliseconds of Unix time.
/// @param stateRoot Root of the tree of all balances.
/// @param withdrawalRoot Root of the tree of all withdrawals ever requested.
/// @param withdrawalCount How many leaves that tree has.
/// @param feeRoot Root of the tree of fees not paid out yet.
/// @param depositCount How many deposits of this contract are credited.
/// @param depositHash The deposit chain's hash after the last of these.
struct Checkpoint {
    uint64 number;
    uint64 epoch;
    uint64 height;
    uint64 timeMs;
    bytes32 stateRoot;
    bytes32 withdrawalRoot;
    uint64 withdrawalCount;
    bytes32 feeRoot;
    uint64 depositCount;
    bytes32 depositHash;
}
