// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Checkpoint} from "../src/Checkpoint.sol";
import {TestToken} from "../src/TestToken.sol";
import {Fixture} from "./Fixture.sol";
import {Tree} from "./Tree.sol";

/// @dev An exchange in miniature: takes deposits, asks for withdrawals, submits checkpoints, claims
/// what they cover, and tries what must not work. Keeps the books that the vault is compared with.
contract Exchange is Fixture {
    struct Request {
        TestToken token;
        address recipient;
        uint256 amount;
    }

    mapping(TestToken token => uint256) public backed;
    mapping(TestToken token => uint256) public deposited;
    mapping(TestToken token => uint256) public withdrawn;
    mapping(TestToken token => uint256) public owed;
    uint256 public claims;
    bytes32 public chained = GENESIS;
    uint64 public entries;
    uint256 public requested;

    Signers private four;
    Request[] private requests;
    bytes32[] private leaves;
    uint64 private claimed;
    uint64 private number;
    Checkpoint private latest;
    uint64 private covered;

    constructor() {
        four = equalSigners(4, "validator");
        setUpWith(four);
        vault =
            newSettlement(GENESIS, EPOCH, hashOf(EPOCH, wordsOf(four)), tokenList(), address(eth));
        back(usdc, 1e15);
        back(eth, 1e24);
    }

    function tokenAt(uint256 which) public view returns (TestToken) {
        return which % 2 == 0 ? usdc : eth;
    }

    function inVault(TestToken token) external view returns (uint256) {
        return token.balanceOf(address(vault));
    }

    function deposit(uint256 which, uint256 amount, uint256 account) external {
        TestToken token = tokenAt(which);
        amount = bound(amount, 1, 1e24);
        address to = address(uint160(bound(account, 1, type(uint160).max)));
        depositBy(ALICE, token, amount, to);
        chained = keccak256(abi.encode(chained, entries++, address(token), to, uint16(0), amount));
        deposited[token] += amount;
        owed[token] += amount;
    }

    /// @dev Stake; what is staked is owed like a deposit until the exchange pays it out.
    function stake(uint256 who, uint256 amount, bytes calldata identity) external {
        address owner = ownerAt(who);
        amount = bound(amount, 1, 1e24);
        bool first = !vault.isRegistered(owner) && identity.length > 0 && identity.length <= 512;
        uint256 before = vault.stakeOf(owner);
        fund(eth, owner, amount);
        vm.prank(owner);
        if (first) vault.register(amount, identity);
        else vault.addStake(amount);
        chainStake(owner, first ? 1 : 2, amount, first ? identity : identity[:0]);
        deposited[eth] += amount;
        owed[eth] += amount;
        assertEq(vault.stakeOf(owner), before + amount);
    }

    /// @dev Ask for stake back, for the exit, or to be unjailed: no token moves.
    function ask(uint256 who, uint256 what, uint256 amount) external {
        address owner = ownerAt(who);
        amount = bound(amount, 1, 1e24);
        uint8 kind = uint8(3 + what % 3);
        vm.prank(owner);
        if (kind == 3) vault.unstake(amount);
        if (kind == 4) vault.exit();
        if (kind == 5) vault.unjail();
        chainStake(owner, kind, kind == 3 ? amount : 0, msg.data[:0]);
        requested += 1;
    }

    function ownerAt(uint256 who) public pure returns (address) {
        return who % 2 == 0 ? ALICE : BOB;
    }

    function chainStake(address owner, uint8 kind, uint256 amount, bytes calldata identity)
        private
    {
        bytes32 word = keccak256("stake");
        bytes32 last = keccak256(identity);
        chained = keccak256(abi.encode(chained, entries++, word, owner, kind, amount, last));
    }

    function chain() external view returns (uint64, bytes32) {
        return (vault.depositCount(), vault.depositHash());
    }

    function give(uint256 which, uint256 amount) external {
        back(tokenAt(which), bound(amount, 1, 1e20));
    }

    function requestWithdrawal(uint256 which, uint256 amount) external {
        TestToken token = tokenAt(which);
        if (owed[token] == 0) return;
        amount = bound(amount, 1, owed[token]);
        owed[token] -= amount;
        leaves.push(withdrawalLeaf(uint64(leaves.length), address(token), BOB, amount));
        requests.push(Request(token, BOB, amount));
    }

    function checkpoint(uint256 gap) external {
        number += uint64(bound(gap, 1, 3));
        latest = checkpointOf(number);
        latest.withdrawalRoot = Tree.root(leaves);
        latest.withdrawalCount = uint64(leaves.length);
        covered = uint64(leaves.length);
        submitByAll(latest, four);
    }

    /// @dev Claim anything that was requested ever: paid if covered and not paid before.
    function claim(uint256 which) external {
        if (requests.length == 0 || number == 0) return;
        uint64 index = uint64(which % requests.length);
        bool due = index < covered && !vault.isWithdrawn(index);
        Request memory r = requests[index];
        bytes32[] memory tree = new bytes32[](covered);
        for (uint256 i; i < covered; ++i) {
            tree[i] = leaves[i];
        }
        bytes32[] memory proof = index < covered ? Tree.proof(tree, index) : new bytes32[](0);
        try vault.withdraw(latest, index, address(r.token), r.recipient, r.amount, proof) {
            assertTrue(due);
            withdrawn[r.token] += r.amount;
            claims += 1;
        } catch {
            assertFalse(due);
        }
    }

    function back(TestToken token, uint256 amount) private {
        token.mint(address(vault), amount);
        backed[token] += amount;
        owed[token] += amount;
    }
}

contract ConservationTest {
    Exchange private exchange;

    error NotConserved(uint256 inVault, uint256 expected);

    function setUp() external {
        exchange = new Exchange();
    }

    /// @dev Tells forge what to call at random.
    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(exchange);
    }

    /// @dev S1: for each token, the vault holds what came in less what went out.
    function invariant_tokensAreConserved() external view {
        for (uint256 i; i < 2; ++i) {
            uint256 inVault = exchange.inVault(exchange.tokenAt(i));
            uint256 expected = exchange.backed(exchange.tokenAt(i))
                + exchange.deposited(exchange.tokenAt(i)) - exchange.withdrawn(exchange.tokenAt(i));
            require(inVault == expected, NotConserved(inVault, expected));
            require(inVault >= exchange.owed(exchange.tokenAt(i)));
        }
    }

    /// @dev D2, R1: one chain over deposits and entries of stake, in their order.
    function invariant_theLogIsChained() external view {
        (uint64 count, bytes32 hash) = exchange.chain();
        require(count == exchange.entries());
        require(hash == exchange.chained());
    }

    /// @dev The walk does reach a claim: one by hand.
    function testAWalkPays() external {
        exchange.deposit(0, 5, 9);
        exchange.stake(0, 5, "me");
        exchange.stake(0, 5, "me");
        exchange.ask(0, 1, 5);
        require(exchange.entries() == 4 && exchange.requested() == 1);
        exchange.requestWithdrawal(0, 7);
        exchange.claim(0);
        exchange.checkpoint(1);
        exchange.claim(0);
        exchange.claim(0);
        require(exchange.claims() == 1);
    }
}
