// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev The part of forge's cheat codes that these tests use.
interface Vm {
    function addr(uint256 key) external pure returns (address);
    function assume(bool condition) external pure;
    function chainId(uint256 id) external;
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function expectEmit() external;
    function expectRevert() external;
    function expectRevert(bytes4 selector) external;
    function expectRevert(bytes calldata data) external;
    function getNonce(address account) external view returns (uint64);
    function prank(address sender) external;
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function warp(uint256 time) external;
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
}
