// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TestToken} from "../src/TestToken.sol";
import {XOM} from "../src/XOM.sol";
import {Test} from "./Vm.sol";

contract TokensTest is Test {
    bytes32 private constant PERMIT_TYPEHASH = keccak256(
        "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
    );

    function testXOMHasAFixedSupply() external {
        XOM xom = newXOM(address(7), 1e27);
        assertEq(xom.totalSupply(), 1e27);
        assertEq(xom.balanceOf(address(7)), 1e27);
        assertEq(xom.decimals(), 18);
        assertEq(keccak256(bytes(xom.symbol())), keccak256("XOM"));
    }

    function testXOMTakesPermits() external {
        XOM xom = newXOM(vm.addr(5), 1e27);
        bytes32 permit = keccak256(
            abi.encode(PERMIT_TYPEHASH, vm.addr(5), address(9), 1e18, 0, type(uint256).max)
        );
        bytes32 digest = keccak256(bytes.concat(hex"1901", xom.DOMAIN_SEPARATOR(), permit));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(5, digest);
        xom.permit(vm.addr(5), address(9), 1e18, type(uint256).max, v, r, s);
        assertEq(xom.allowance(vm.addr(5), address(9)), 1e18);
    }

    function testOnlyTheMinterMints() external {
        TestToken token = newToken("USDC", 6);
        assertEq(token.decimals(), 6);
        assertEq(token.minter(), address(this));
        assertEq(keccak256(bytes(token.symbol())), keccak256("USDC"));
        token.mint(address(7), 3);
        assertEq(token.balanceOf(address(7)), 3);
        vm.prank(address(7));
        vm.expectRevert(TestToken.NotMinter.selector);
        token.mint(address(7), 1);
    }
}
