// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Deposits} from "./Deposits.sol";
import {Staking} from "./Staking.sol";
import {Validators} from "./Validators.sol";
import {Withdrawals} from "./Withdrawals.sol";

/// @title Settlement
/// @notice The exchange's place on an EVM chain: tokens come in by deposit and leave by withdrawals
/// that are proven against checkpoints of the exchange.
/// @dev It has no owner, no upgrade and no pause. It is as trustworthy as two thirds of the
/// validators' power, and trusts nobody else. Rules are numbered where they are kept: V in
/// `Validators`, D in `Deposits`, C in `Checkpoints`, W in `Withdrawals`, R in `Staking`. What holds
/// over all:
///
/// S1. Of each token the vault holds what was deposited, what was staked and what was sent to back
///     the genesis balances, less what was withdrawn.
/// S2. State changes before tokens move, and no call enters again while tokens move.
contract Settlement is Withdrawals, Staking {
    /// @param genesisHash_ Hash of the exchange's genesis document; the deposit chain starts here.
    /// @param epoch_ Epoch of the first validator set.
    /// @param validatorSetHash_ Hash of the first validator set (V1).
    /// @param tokens_ All tokens that are ever taken (D1).
    /// @param stakeToken_ The one of them that is staked; zero for no staking (R1).
    constructor(
        bytes32 genesisHash_,
        uint64 epoch_,
        bytes32 validatorSetHash_,
        address[] memory tokens_,
        address stakeToken_
    )
        Validators(genesisHash_, epoch_, validatorSetHash_)
        Deposits(genesisHash_, tokens_)
        Staking(stakeToken_)
    {}
}
