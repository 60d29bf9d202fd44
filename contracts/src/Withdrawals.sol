// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";
import {BitMaps} from "@openzeppelin/contracts/utils/structs/BitMaps.sol";
import {Checkpoint} from "./Checkpoint.sol";
import {Checkpoints} from "./Checkpoints.sol";

/// @title Withdrawals
/// @notice Pays out what the exchange has debited, once each.
/// @dev Rules:
///
/// W1. A withdrawal is a leaf of the withdrawal tree of a checkpoint that is kept (C5):
///     `keccak256(keccak256(abi.encode(index, token, recipient, amount)))`. Two hashes, so that no
///     inner node can pass for a leaf. An inner node hashes its smaller child first; the last node
///     of a level without a sibling moves up as it is.
/// W2. Each index is paid once, whatever checkpoint proves it.
/// W3. Anyone may bring the proof; the tokens go to the recipient in the leaf.
/// W4. Only tokens of the list leave (D1).
abstract contract Withdrawals is Checkpoints {
    using BitMaps for BitMaps.BitMap;
    using SafeERC20 for IERC20;

    BitMaps.BitMap private _withdrawn;

    /// @notice A withdrawal was paid.
    /// @param index The withdrawal's number on the exchange.
    /// @param token Which token.
    /// @param recipient Who has it now.
    /// @param amount How much, in the token's base units.
    event Withdrawn(
        uint64 indexed index, address indexed token, address indexed recipient, uint256 amount
    );

    /// @notice The index was paid before (W2).
    error AlreadyWithdrawn(uint64 index);

    /// @notice Whether a withdrawal is paid.
    /// @param index The withdrawal's number on the exchange.
    function isWithdrawn(uint64 index) external view returns (bool) {
        return _withdrawn.get(index);
    }

    /// @notice Pay a withdrawal to its recipient. Anyone may call (W3).
    /// @param checkpoint A checkpoint that is kept and covers the withdrawal (W1).
    /// @param index The withdrawal's number on the exchange.
    /// @param token Which token (W4).
    /// @param recipient Whom to pay.
    /// @param amount How much, in the token's base units.
    /// @param proof Siblings from the leaf up to the withdrawal root.
    function withdraw(
        Checkpoint calldata checkpoint,
        uint64 index,
        address token,
        address recipient,
        uint256 amount,
        bytes32[] calldata proof
    ) external nonReentrant {
        _requireCheckpointed(checkpoint);
        require(!_withdrawn.get(index), AlreadyWithdrawn(index));
        require(index < checkpoint.withdrawalCount, WrongProof());
        bytes32 leaf =
            keccak256(bytes.concat(keccak256(abi.encode(index, token, recipient, amount))));
        require(MerkleProof.verifyCalldata(proof, checkpoint.withdrawalRoot, leaf), WrongProof());
        require(isToken[token], UnknownToken(token));
        _withdrawn.set(index);
        emit Withdrawn(index, token, recipient, amount);
        IERC20(token).safeTransfer(recipient, amount);
    }
}
