"""The bridge against a naive model: whole logs as lists, every tree built by the book.

The model knows no rolling hash, no pending deposit and no incremental tree. After every block: the
same deposits credited, the same liars named, the same money on both sides of the bridge, the same
roots, and a database that gives the same exchange back.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from exchange_world import (
    ALICE,
    BOB,
    CAROL,
    CHECKPOINT_MS,
    DAVE,
    TOKENS,
    VALIDATORS,
    Log,
    World,
    deposit,
    make_settled_genesis,
    order,
)
from omninode.crypto import keccak256, recover_address
from omninode.dex.actions import SignCheckpoint, Transfer, Withdraw
from omninode.dex.bridge.deposits import Deposit
from omninode.dex.bridge.evm import (
    checkpoint_digest,
    fee_leaf,
    state_leaf,
    withdrawal_leaf,
)
from omninode.dex.decimals import format_units
from omninode.dex.events import CheckpointCertified, CheckpointMade, DepositCredited
from omninode.dex.exchange import Exchange
from omninode.dex.fees import VALIDATOR_POOL
from omninode.dex.outcomes import BlockOutcome
from omninode.dex.transaction import Transaction

TRADERS = (ALICE, BOB, CAROL, DAVE)
ASSETS = ("USDC", "BTC", "ETH", "XOM")
DECIMALS = {"USDC": 6, "BTC": 8, "ETH": 18, "XOM": 18}
POWERS = ((1, 1, 1, 1), (3, 3, 3, 1), (1, 2, 3, 4, 5), (3, 3, 3), (5, 1, 1), (2, 2, 2, 2, 1), (1,))
UNKNOWN = keccak256(b"no token of ours")[-20:]
VALIDATOR_NUMBERS = st.integers(0, 4)


def book_root(leaves: list[bytes]) -> bytes:
    """Hash a tree level by level; the odd last node goes up as it is."""
    while len(leaves) > 1:
        pairs = [leaves[i : i + 2] for i in range(0, len(leaves), 2)]
        leaves = [keccak256(b"".join(sorted(p))) if len(p) == 2 else p[0] for p in pairs]
    return leaves[0] if leaves else bytes(32)


def contradict(one: list[Deposit], other: list[Deposit]) -> bool:
    """Whether neither log is the beginning of the other."""
    return any(a != b for a, b in zip(one, other, strict=False))


class BridgeMachine(RuleBasedStateMachine):
    """Deposits, lies, withdrawals, trades, checkpoints, signatures and restarts in any order."""

    @initialize(powers=st.sampled_from(POWERS))
    def begin(self, powers: tuple[int, ...]) -> None:
        self.world = World(make_settled_genesis(powers))
        self.powers = powers
        truth = [
            deposit(TRADERS[n % 4], 10**6 + n, ("USDC", "BTC", UNKNOWN)[n % 3]) for n in range(9)
        ]
        self.logs = [Log(self.world.exchange.rules.hash, truth)]
        for keep in (2, 5):
            self.logs.append(Log(self.logs[0].hashes[0], truth[:keep]))
            for n in range(3):
                self.logs[-1].add(deposit(CAROL, keep + n))
        self.tips: dict[int, list[Deposit]] = {}
        self.credited: list[Deposit] = []
        self.leaves: list[tuple[bytes, int, int]] = []
        self.withdrawals: list[bytes] = []
        self.flow = dict.fromkeys(ASSETS, 0)
        self.last_checkpoint_ms = self.world.now_ms
        self.signers: dict[int, set[int]] = {}

    # --- What the model thinks -------------------------------------------------------------------

    def is_quorum(self, validators: set[int]) -> bool:
        return 3 * sum(self.powers[v] for v in validators) > 2 * sum(self.powers)

    def settle(self) -> list[Deposit]:
        """Credit what a quorum's logs begin with."""
        fresh: list[Deposit] = []
        while True:
            size = len(self.credited) + 1
            tried = [log[:size] for log in self.tips.values() if len(log) >= size]
            agreed = [
                tip
                for tip in tried
                if self.is_quorum({v for v, log in self.tips.items() if log[:size] == tip})
            ]
            if not agreed or agreed[0][:-1] != self.credited:
                return fresh
            self.credited = agreed[0]
            fresh.append(agreed[0][-1])

    def strays(self) -> set[int]:
        """Return the validators whose log is not the beginning or the continuation of ours."""
        return {v for v, log in self.tips.items() if contradict(log, self.credited)}

    def expected_refusal(self, log: Log, start: int, end: int) -> str:
        if end < len(self.credited):
            return "stale_attestation"
        known = start <= len(self.credited) or any(
            tip[:start] == log.deposits[:start]
            for v, tip in self.tips.items()
            if len(tip) >= start and v not in self.strays()
        )
        return "" if known else "unknown_parent"

    def apply(self, *body: Transaction, after_ms: int = 100) -> BlockOutcome:
        """Apply a block and compare all that it says."""
        outcome = self.world.apply(*body, after_ms=after_ms)
        fresh = self.settle()
        known = [d for d in fresh if d.token != UNKNOWN]
        credited = self.world.of_type(DepositCredited)
        assert [(e.account, e.token, e.amount) for e in credited] == [
            (d.account, d.token, d.amount) for d in known
        ]
        for event in credited:
            self.flow[event.asset] += int.from_bytes(event.amount, "big")
        is_due = self.world.now_ms - self.last_checkpoint_ms >= CHECKPOINT_MS
        made = self.world.of_type(CheckpointMade)
        assert len(made) == is_due
        for event in made:
            self.last_checkpoint_ms = self.world.now_ms
            self.check_checkpoint(event)
        return outcome

    def check_checkpoint(self, event: CheckpointMade) -> None:
        """Build every tree anew."""
        checkpoint, rules = event.checkpoint, self.world.exchange.rules
        owned: dict[tuple[bytes, int, int], int] = {}
        for owner in self.world.exchange.state.accounts.owners.values():
            for number, account in owner.subaccounts.items():
                for asset, balance in account.balances.items():
                    owned[owner.address, number, asset] = balance.free + balance.held
        self.leaves += sorted(k for k, units in owned.items() if units and k not in self.leaves)
        tokens = [TOKENS.get(asset.name, bytes(20)) for asset in rules.assets]
        assert checkpoint.state_root == book_root(
            [
                state_leaf(index, key[0], key[1], tokens[key[2]], owned.get(key, 0))
                for index, key in enumerate(self.leaves)
            ]
        )
        assert checkpoint.withdrawal_root == book_root(list(self.withdrawals))
        assert checkpoint.withdrawal_count == len(self.withdrawals)
        assert checkpoint.fee_root == book_root(
            [
                fee_leaf(n, VALIDATOR_POOL, token, owned.get((VALIDATOR_POOL, 0, n), 0))
                for n, token in enumerate(tokens)
            ]
        )
        assert checkpoint.deposit_count == len(self.credited)
        assert checkpoint.deposit_hash == Log(rules.hash, self.credited).hashes[-1]
        assert checkpoint.height == self.world.exchange.height
        assert checkpoint.time_ms == self.world.now_ms
        self.signers[checkpoint.number] = set()

    # --- What happens ----------------------------------------------------------------------------

    @rule(
        account=st.sampled_from(TRADERS),
        token=st.sampled_from(("USDC", "BTC", "XOM", UNKNOWN)),
        amount=st.integers(1, 10**12),
        which=st.sampled_from((0, 0, 1, 2)),
    )
    def deposit(self, account: bytes, token: str | bytes, amount: int, which: int) -> None:
        """The contract logs a deposit; or a liar invents one."""
        self.logs[which].add(deposit(account, amount, token))

    @rule(
        validator=VALIDATOR_NUMBERS,
        which=st.sampled_from((0, 0, 0, 1, 2)),
        back=st.integers(0, 7),
        before=st.integers(-2, 2),
    )
    def attest(self, validator: int, which: int, back: int, before: int) -> None:
        """A validator attests a log, all of it or less, from where it thinks the chain is."""
        validator %= len(self.powers)
        log = self.logs[which]
        end = len(log.deposits) - back
        if end < 1:
            return
        start = min(end, max(0, len(self.credited) + before))
        expected = self.expected_refusal(log, start, end)
        if not expected:
            self.tips[validator] = log.deposits[:end]
        action = log.attestation(start, end)
        outcome = self.apply(self.world.attest(validator, action))
        assert outcome.results[0].reason == expected

    @rule(
        words=st.lists(
            st.tuples(VALIDATOR_NUMBERS, st.sampled_from((0, 0, 0, 0, 1, 2)), st.integers(0, 7)),
            min_size=2,
            max_size=8,
        )
    )
    def many_attest(self, words: list[tuple[int, int, int]]) -> None:
        """A block with many words of many validators: of each validator the last one counts."""
        body, expected, start = [], [], len(self.credited)
        for number, which, back in words:
            log = self.logs[which]
            validator, end = number % len(self.powers), len(log.deposits) - back
            if end < max(1, start):
                continue
            body.append(self.world.attest(validator, log.attestation(start, end)))
            expected.append((validator, log.deposits[:end]))
        self.tips.update(expected)
        outcome = self.apply(*body)
        assert {result.reason for result in outcome.results} <= {""}

    @rule(
        trader=st.sampled_from(TRADERS),
        asset=st.sampled_from(ASSETS),
        share=st.integers(1, 12),
        sub=st.integers(0, 1),
    )
    def withdraw(self, trader: bytes, asset: str, share: int, sub: int) -> None:
        free = self.world.balance(trader, asset, sub)[0]
        units = free * share // 10
        if not units:
            return
        recipient = keccak256(b"%d" % len(self.withdrawals))[-20:]
        action = Withdraw(sub, asset, format_units(units, DECIMALS[asset]), recipient)
        expected = "not_withdrawable" if asset == "ETH" else ""
        if units > free:
            expected = expected or "insufficient_balance"
        if not expected:
            self.withdrawals.append(
                withdrawal_leaf(len(self.withdrawals), TOKENS[asset], recipient, units)
            )
            self.flow[asset] -= units
        outcome = self.apply(self.world.transaction(trader, action))
        assert outcome.results[0].reason == expected

    @rule(sender=st.sampled_from(TRADERS), to=st.sampled_from(TRADERS), share=st.integers(1, 10))
    def transfer(self, sender: bytes, to: bytes, share: int) -> None:
        units = self.world.balance(sender, "USDC")[0] * share // 10
        if units:
            action = Transfer(0, to, 1, "USDC", format_units(units, 6))
            assert self.apply(self.world.transaction(sender, action)).results[0].code == "ok"

    @rule(seller=st.sampled_from(TRADERS), buyer=st.sampled_from(TRADERS), rests=st.booleans())
    def trade(self, seller: bytes, buyer: bytes, rests: bool) -> None:
        """Fees fill the pool; what rests is held."""
        price = "120" if rests else "100"
        self.apply(self.world.transaction(seller, order("sell", "0.01", price)))
        self.apply(self.world.transaction(buyer, order("buy", "0.01", "100")))

    @rule(validators=st.permutations(range(5)), count=st.integers(1, 5))
    def many_sign(self, validators: list[int], count: int) -> None:
        """A checkpoint, and signatures of it, a block each."""
        self.apply(after_ms=CHECKPOINT_MS)
        number = self.world.exchange.state.bridge.checkpoints.number
        for validator in [v for v in validators if v < len(self.powers)][:count]:
            if number in self.world.exchange.state.bridge.checkpoints.pending:
                self.sign_one(validator, number, is_right=True)

    @precondition(lambda self: self.world.exchange.state.bridge.checkpoints.pending)
    @rule(validator=VALIDATOR_NUMBERS, newest=st.booleans(), is_right=st.booleans())
    def sign(self, validator: int, newest: bool, is_right: bool) -> None:
        pending = self.world.exchange.state.bridge.checkpoints.pending
        number = max(pending) if newest else min(pending)
        self.sign_one(validator % len(self.powers), number, is_right=is_right)

    def sign_one(self, validator: int, number: int, *, is_right: bool) -> None:
        """Sign, rightly or wrongly, and compare what becomes of it."""
        pending = self.world.exchange.state.bridge.checkpoints.pending
        digest = pending[number].digest if is_right else keccak256(b"wrong")
        key = VALIDATORS[validator]
        signed = self.signers[number]
        expected = "already_signed" if validator in signed else "" if is_right else "bad_signature"
        if not expected:
            signed.add(validator)
        action = SignCheckpoint(number, key.sign(digest))
        outcome = self.apply(self.world.transaction(key.address, action))
        assert outcome.results[0].reason == expected
        certified = self.world.of_type(CheckpointCertified)
        assert bool(certified) == (not expected and self.is_quorum(signed))
        for event in certified:
            self.check_certified(event, number)

    def check_certified(self, event: CheckpointCertified, number: int) -> None:
        """Exactly the right signers, ascending, and older ones closed."""
        certified = event.certified
        assert certified.checkpoint.number == number
        assert [index for index, _ in certified.signatures] == sorted(self.signers[number])
        digest = checkpoint_digest(certified.checkpoint, self.world.exchange.state.bridge.domain)
        for index, signature in certified.signatures:
            assert recover_address(digest, signature) == VALIDATORS[index].address
        assert all(n > number for n in self.world.exchange.state.bridge.checkpoints.pending)

    @rule(after_ms=st.sampled_from([1, 999, 1_000, 5_000]))
    def time_passes(self, after_ms: int) -> None:
        self.apply(after_ms=after_ms)

    @rule()
    def restart(self) -> None:
        """Go on from the database alone."""
        rules = self.world.exchange.rules
        self.world.exchange = Exchange.load(rules, self.world.database.items())

    # --- What always holds -----------------------------------------------------------------------

    @invariant()
    def same_cursor_and_the_liars_are_named(self) -> None:
        deposits = self.world.exchange.state.bridge.deposits
        assert deposits.credited.count == len(self.credited)
        index_of = self.world.exchange.state.validator_set.index_of
        strays = self.strays()
        named = {
            index_of(address)
            for found in deposits.disagreements
            if found.index < len(self.credited)
            for side_hash, addresses in found.sides
            for address in addresses
            if deposits.tips[address].stray is not None
        }
        assert named == strays
        living = [log for v, log in self.tips.items() if v not in strays]
        forked = any(contradict(a, b) for a in living for b in living)
        assert forked == any(d.index >= len(self.credited) for d in deposits.disagreements)

    @invariant()
    def same_money_on_both_sides(self) -> None:
        """Balances + what was withdrawn = genesis + what was credited."""
        rules = self.world.exchange.rules
        bridge = self.world.exchange.state.bridge
        for index, asset in enumerate(ASSETS):
            total = sum(
                balance.free + balance.held
                for owner in self.world.exchange.state.accounts.owners.values()
                for account in owner.subaccounts.values()
                for place, balance in account.balances.items()
                if place == index
            )
            assert total == rules.supply[index] + self.flow[asset] == bridge.supply(index)

    @invariant()
    def the_database_is_the_state(self) -> None:
        if self.world.exchange.height:
            assert self.world.database == self.world.records()


TestBridgeMachine = BridgeMachine.TestCase
TestBridgeMachine.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
