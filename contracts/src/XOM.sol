// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";

/// @title XOM
/// @notice OmniNode's token: 18 decimals, a fixed supply, approvals by signature (EIP-2612).
contract XOM is ERC20, ERC20Permit {
    /// @param holder Who gets the whole supply.
    /// @param supply How much there will ever be, in base units.
    constructor(address holder, uint256 supply) ERC20("OmniNode", "XOM") ERC20Permit("OmniNode") {
        _mint(holder, supply);
    }
}
