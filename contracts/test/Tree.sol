// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @dev A dense tree as the exchange builds it (rule W1), written from its definition: level by
/// level, the last node of an odd level moves up as it is.
library Tree {
    function node(bytes32 a, bytes32 b) internal pure returns (bytes32) {
        return a < b ? keccak256(bytes.concat(a, b)) : keccak256(bytes.concat(b, a));
    }

    function above(bytes32[] memory level) internal pure returns (bytes32[] memory next) {
        next = new bytes32[]((level.length + 1) / 2);
        for (uint256 i; i < next.length; ++i) {
            next[i] = 2 * i + 1 < level.length ? node(level[2 * i], level[2 * i + 1]) : level[2 * i];
        }
    }

    function root(bytes32[] memory level) internal pure returns (bytes32) {
        if (level.length == 0) return 0;
        while (level.length > 1) level = above(level);
        return level[0];
    }

    function proof(bytes32[] memory level, uint256 index)
        internal
        pure
        returns (bytes32[] memory found)
    {
        bytes32[] memory siblings = new bytes32[](64);
        uint256 count;
        while (level.length > 1) {
            uint256 sibling = index ^ 1;
            if (sibling < level.length) siblings[count++] = level[sibling];
            level = above(level);
            index /= 2;
        }
        found = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            found[i] = siblings[i];
        }
    }
}
