// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";

/// @title Deposits
/// @notice Takes tokens in and numbers what came, for the validators to credit.
/// @dev Rules:
///
/// D1. Only the tokens named at construction are taken, and the list never changes.
/// D2. Deposits count from 0 without gaps. Each extends a hash chain that starts at the genesis
///     hash, so a count and a hash say all about what was deposited and in which order:
///     `keccak256(abi.encode(hash, index, token, account, subaccount, amount))`. What is staked is
///     counted among them and has an entry of its own kind (R1).
/// D3. What is credited has come in: a token that keeps a fee of the transfer is refused.
/// D4. Amounts fit in 128 bits and subaccounts go up to 999, as the exchange keeps them.
/// D5. Tokens sent here without `deposit` are credited to nobody. That is how balances of the
///     genesis document are backed.
abstract contract Deposits is ReentrancyGuardTransient {
    using SafeERC20 for IERC20;

    uint16 private constant SUBACCOUNT_MAX = 999;

    /// @notice How many deposits and entries of stake there are; the next one gets this index.
    uint64 public depositCount;

    /// @notice The hash chain after the last of these (D2).
    bytes32 public depositHash;

    /// @notice Whether a token is taken (D1).
    mapping(address token => bool) public isToken;

    address[] private _tokens;

    /// @notice Tokens have come in for an account of the exchange.
    /// @param index The deposit's number (D2).
    /// @param token Which token.
    /// @param account Whom the exchange credits.
    /// @param subaccount Which of the account's subaccounts.
    /// @param amount How much, in the token's base units.
    /// @param depositHash The deposit chain's hash after this deposit.
    event Deposited(
        uint64 indexed index,
        address indexed token,
        address indexed account,
        uint16 subaccount,
        uint256 amount,
        bytes32 depositHash
    );

    /// @notice The token is not taken here; at construction: is zero or listed twice.
    error UnknownToken(address token);

    /// @notice The amount is zero, above 128 bits, or not what came in.
    error WrongAmount();

    /// @notice The account is zero.
    error WrongAccount();

    /// @notice The subaccount is above 999.
    error WrongSubaccount();

    constructor(bytes32 firstHash, address[] memory tokens_) {
        depositHash = firstHash;
        for (uint256 i; i < tokens_.length; ++i) {
            address token = tokens_[i];
            require(token != address(0) && !isToken[token], UnknownToken(token));
            isToken[token] = true;
        }
        _tokens = tokens_;
    }

    /// @notice All tokens that are taken, in the order of construction (D1).
    function tokens() external view returns (address[] memory) {
        return _tokens;
    }

    /// @notice Deposit tokens of the caller, who has approved this contract for the amount, to an
    /// account of the exchange.
    /// @param token Which token (D1).
    /// @param amount How much, in the token's base units (D4).
    /// @param account Whom the exchange shall credit: an account is the address of its wallet.
    /// @param subaccount Which of the account's subaccounts (D4).
    /// @return index The deposit's number (D2).
    function deposit(address token, uint256 amount, address account, uint16 subaccount)
        external
        nonReentrant
        returns (uint64 index)
    {
        require(isToken[token], UnknownToken(token));
        require(amount != 0 && amount <= type(uint128).max, WrongAmount());
        require(account != address(0), WrongAccount());
        require(subaccount <= SUBACCOUNT_MAX, WrongSubaccount());
        index = depositCount++;
        bytes32 hash = keccak256(abi.encode(depositHash, index, token, account, subaccount, amount));
        depositHash = hash;
        emit Deposited(index, token, account, subaccount, amount, hash);
        _takeIn(token, amount);
    }

    /// @dev Take tokens of the caller; revert unless all of it comes in (D3).
    function _takeIn(address token, uint256 amount) internal {
        uint256 before = IERC20(token).balanceOf(address(this));
        IERC20(token).safeTransferFrom(msg.sender, address(this), amount);
        require(IERC20(token).balanceOf(address(this)) - before == amount, WrongAmount());
    }
}
