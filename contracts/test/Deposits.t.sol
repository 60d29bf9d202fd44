// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {Deposits} from "../src/Deposits.sol";
import {Settlement} from "../src/Settlement.sol";
import {TestToken} from "../src/TestToken.sol";
import {Validators} from "../src/Validators.sol";
import {Fixture} from "./Fixture.sol";

/// @dev Keeps one base unit of every transfer.
contract TollToken is ERC20("Toll", "TOLL") {
    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (from != address(0) && to != address(0)) super._update(to, address(1), 1);
    }
}

/// @dev Deposits again while it is being deposited.
contract EagerToken is ERC20("Eager", "EAGER") {
    Settlement private _vault;

    function mint(address to, uint256 amount) external {
        _mint(to, amount);
    }

    function aim(Settlement vault) external {
        _vault = vault;
    }

    function _update(address from, address to, uint256 amount) internal override {
        super._update(from, to, amount);
        if (address(_vault) != address(0)) _vault.deposit(address(this), amount, from, 0);
    }
}

contract DepositsTest is Fixture {
    function setUp() external {
        setUpWith(equalSigners(4, "validator"));
    }

    function testStartsAtGenesis() external view {
        assertEq(vault.depositCount(), 0);
        assertEq(vault.depositHash(), GENESIS);
        assertEq(vault.genesisHash(), GENESIS);
        assertTrue(vault.isToken(address(usdc)));
        assertFalse(vault.isToken(address(this)));
        assertEq(keccak256(abi.encode(vault.tokens())), keccak256(abi.encode(tokenList())));
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzzChainsDeposits(uint256[] calldata draws) external {
        bytes32 hash = GENESIS;
        uint256[2] memory inVault;
        for (uint64 i; i < draws.length; ++i) {
            uint256 draw = uint256(keccak256(abi.encode(draws[i], i)));
            TestToken token = draw % 2 == 0 ? usdc : eth;
            uint256 amount = bound(draw >> 8, 1, type(uint128).max);
            address account = address(uint160(bound(draw, 1, type(uint160).max)));
            uint16 subaccount = uint16(draw >> 16) % 1000;
            fund(token, ALICE, amount);
            hash = keccak256(abi.encode(hash, i, token, account, subaccount, amount));
            vm.expectEmit();
            emit Deposits.Deposited(i, address(token), account, subaccount, amount, hash);
            vm.prank(ALICE);
            assertEq(vault.deposit(address(token), amount, account, subaccount), i);
            assertEq(vault.depositHash(), hash);
            assertEq(vault.depositCount(), i + 1);
            inVault[draw % 2] += amount;
        }
        assertEq(usdc.balanceOf(address(vault)), inVault[0]);
        assertEq(eth.balanceOf(address(vault)), inVault[1]);
    }

    function testRefusesUnknownToken() external {
        TestToken other = newToken("O", 18);
        fund(other, address(this), 5);
        vm.expectRevert(abi.encodeWithSelector(Deposits.UnknownToken.selector, address(other)));
        vault.deposit(address(other), 5, ALICE, 0);
    }

    function testRefusesAmountsOutOfRange() external {
        uint256 amount = uint256(type(uint128).max) + 1;
        fund(usdc, address(this), amount);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.deposit(address(usdc), 0, ALICE, 0);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.deposit(address(usdc), amount, ALICE, 0);
        vault.deposit(address(usdc), amount - 1, ALICE, 0);
    }

    function testRefusesWrongAccounts() external {
        fund(usdc, address(this), 5);
        vm.expectRevert(Deposits.WrongAccount.selector);
        vault.deposit(address(usdc), 5, address(0), 0);
        vm.expectRevert(Deposits.WrongSubaccount.selector);
        vault.deposit(address(usdc), 5, ALICE, 1000);
        vault.deposit(address(usdc), 5, ALICE, 999);
    }

    function testRefusesWithoutAllowanceOrFunds() external {
        usdc.mint(address(this), 5);
        vm.expectRevert();
        vault.deposit(address(usdc), 5, ALICE, 0);
        usdc.approve(address(vault), 6);
        vm.expectRevert();
        vault.deposit(address(usdc), 6, ALICE, 0);
        assertEq(vault.depositCount(), 0);
    }

    function testRefusesTokensThatKeepAFee() external {
        TollToken toll = new TollToken();
        vault = vaultFor(address(toll));
        toll.mint(address(this), 100);
        toll.approve(address(vault), 100);
        vm.expectRevert(Deposits.WrongAmount.selector);
        vault.deposit(address(toll), 100, ALICE, 0);
    }

    function testRefusesToBeEnteredAgain() external {
        EagerToken eager = new EagerToken();
        vault = vaultFor(address(eager));
        eager.mint(address(this), 100);
        eager.approve(address(vault), 100);
        eager.aim(vault);
        vm.expectRevert(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector);
        vault.deposit(address(eager), 100, ALICE, 0);
    }

    function testTakesNoEther() external {
        (bool accepted,) = address(vault).call{value: 1}("");
        assertFalse(accepted);
    }

    function testConstructorRefusesBadLists() external {
        address[] memory list = new address[](2);
        list[0] = address(usdc);
        vm.expectRevert(abi.encodeWithSelector(Deposits.UnknownToken.selector, address(0)));
        newSettlement(GENESIS, EPOCH, bytes32(uint256(1)), list);
        list[1] = address(usdc);
        vm.expectRevert(abi.encodeWithSelector(Deposits.UnknownToken.selector, address(usdc)));
        newSettlement(GENESIS, EPOCH, bytes32(uint256(1)), list);
    }

    function testConstructorRefusesZeroHashes() external {
        vm.expectRevert(Validators.WrongGenesisHash.selector);
        newSettlement(0, EPOCH, bytes32(uint256(1)), tokenList());
        vm.expectRevert(Validators.WrongValidatorSet.selector);
        newSettlement(GENESIS, EPOCH, 0, tokenList());
    }

    function vaultFor(address token) private returns (Settlement) {
        address[] memory list = new address[](1);
        list[0] = token;
        return newSettlement(GENESIS, EPOCH, bytes32(uint256(1)), list);
    }
}
