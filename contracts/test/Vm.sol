// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {XOM} from "../src/XOM.sol";

/// @dev The part of forge's cheat codes that these tests use.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function expectEmit() external;
    function expectRevert() external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function getCode(string calldata path) external view returns (bytes memory);
    function prank(address sender) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
}

/// @dev What every test contract stands on.
abstract contract Test {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    error NotEqual(bytes32 left, bytes32 right);
    error NotTrue();

    function assertEq(bytes32 left, bytes32 right) internal pure {
        require(left == right, NotEqual(left, right));
    }

    function assertEq(uint256 left, uint256 right) internal pure {
        assertEq(bytes32(left), bytes32(right));
    }

    function assertEq(address left, address right) internal pure {
        assertEq(uint160(left), uint160(right));
    }

    function assertTrue(bool condition) internal pure {
        require(condition, NotTrue());
    }

    function assertFalse(bool condition) internal pure {
        require(!condition, NotTrue());
    }

    /// @dev Fold a drawn number into a range, ends included.
    function bound(uint256 drawn, uint256 low, uint256 high) internal pure returns (uint256) {
        uint256 width = high - low;
        return width == type(uint256).max ? drawn : low + drawn % (width + 1);
    }

    /// @dev Deploy what is committed, not what forge compiled: `build.mjs` compiles otherwise.
    /// @param name The contract's name.
    /// @param arguments The constructor's arguments, encoded.
    function deploy(string memory name, bytes memory arguments) internal returns (address made) {
        bytes memory code = vm.getCode(string.concat("artifacts/", name, ".json"));
        bytes memory creation = bytes.concat(code, arguments);
        assembly ("memory-safe") {
            made := create(0, add(creation, 0x20), mload(creation))
            if iszero(made) {
                let reason := mload(0x40)
                returndatacopy(reason, 0, returndatasize())
                revert(reason, returndatasize())
            }
        }
    }

    /// @dev Without staking.
    function newSettlement(bytes32 genesis, uint64 epoch, bytes32 setHash, address[] memory tokens)
        internal
        returns (Settlement)
    {
        return newSettlement(genesis, epoch, setHash, tokens, address(0));
    }

    function newSettlement(
        bytes32 genesis,
        uint64 epoch,
        bytes32 setHash,
        address[] memory tokens,
        address stakeToken
    ) internal returns (Settlement) {
        bytes memory arguments = abi.encode(genesis, epoch, setHash, tokens, stakeToken);
        return Settlement(deploy("Settlement", arguments));
    }

    /// @dev A test token that this contract mints.
    function newToken(string memory symbol, uint8 decimals) internal returns (TestToken) {
        bytes memory arguments = abi.encode("Test token", symbol, decimals, address(this));
        return TestToken(deploy("TestToken", arguments));
    }

    function newXOM(address holder, uint256 supply) internal returns (XOM) {
        return XOM(deploy("XOM", abi.encode(holder, supply)));
    }
}
