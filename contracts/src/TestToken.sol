// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title TestToken
/// @notice Stands in for USDC, BTC or ETH on chains without value: its minter makes as much of it
/// as is asked for.
contract TestToken is ERC20 {
    uint8 private immutable _decimals;

    /// @notice Who may mint.
    address public immutable minter;

    /// @notice The caller is not the minter.
    error NotMinter();

    /// @param name_ The token's name.
    /// @param symbol_ The token's symbol.
    /// @param decimals_ How many decimals a unit has.
    /// @param minter_ Who may mint.
    constructor(string memory name_, string memory symbol_, uint8 decimals_, address minter_)
        ERC20(name_, symbol_)
    {
        _decimals = decimals_;
        minter = minter_;
    }

    /// @notice How many decimals a unit has.
    function decimals() public view override returns (uint8) {
        return _decimals;
    }

    /// @notice Make tokens. Only the minter may.
    /// @param to Who gets them.
    /// @param amount How many, in base units.
    function mint(address to, uint256 amount) external {
        require(msg.sender == minter, NotMinter());
        _mint(to, amount);
    }
}
