"""Attesting and crediting deposits (PROTOCOL.md P9): quorums, liars, laggards, bounds."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from exchange_world import (
    ALICE,
    BOB,
    DAVE,
    TOKENS,
    VALIDATORS,
    Log,
    World,
    deposit,
    make_settled_genesis,
    stake,
)
from omninode.crypto import keccak256
from omninode.dex.actions import AttestDeposits
from omninode.dex.bridge.deposits import ADD_STAKE, EXIT, REGISTER, UNJAIL, UNSTAKE, Cursor
from omninode.dex.bridge.limits import (
    ATTESTED_DEPOSITS_MAX,
    ATTESTED_IDENTITY_BYTES_MAX,
    IDENTITY_BYTES_MAX,
    PENDING_DEPOSITS_MAX,
)
from omninode.dex.events import (
    DepositCredited,
    DepositDisagreement,
    DepositIgnored,
    StakeIgnored,
)
from omninode.dex.transaction import SCHEME_VALIDATOR, Transaction
from omninode.encoding import amount_from_bytes

UNIT = 10**6
STRANGER = keccak256(b"stranger")[-20:]


class Watched(World):
    """A settled exchange and the true log of its contract."""

    def __init__(self, powers: Sequence[int] = (1, 1, 1, 1), count: int = 0) -> None:
        super().__init__(make_settled_genesis(powers))
        self.deposits = self.exchange.state.bridge.deposits
        self.log = Log(self.exchange.rules.hash)
        self.grow(count)

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.log.add(deposit(DAVE, (len(self.log.deposits) + 1) * UNIT))

    def lie(self, at: int, count: int = 0, name: bytes = b"liar") -> Log:
        """Return a log that differs from the true one from index `at` on."""
        log = Log(self.log.hashes[0], self.log.deposits[:at])
        log.add(deposit(keccak256(name)[-20:], 10**12))
        for _ in range(count):
            log.add(deposit(BOB, UNIT))
        return log

    def say(self, *words: tuple[int, AttestDeposits]) -> list[str]:
        """Apply a block with these attestations; returns why each was refused."""
        outcome = self.apply(*(self.attest(validator, action) for validator, action in words))
        self.deposits = self.exchange.state.bridge.deposits
        assert dict(self.reload().records()) == self.database
        return [result.reason for result in outcome.results]

    @property
    def credited(self) -> int:
        return self.deposits.credited.count

    def named(self) -> list[tuple[int, list[set[int]]]]:
        """Return the disagreements with validators by their index, the strongest side first."""
        index_of = self.exchange.state.validator_set.index_of
        return [
            (found.index, [{index_of(a) or 0 for a in addresses} for _, addresses in found.sides])
            for found in self.deposits.disagreements
        ]


def test_what_more_than_two_thirds_attest_is_credited_in_order() -> None:
    world = Watched(count=3)
    assert world.say((0, world.log.attestation(0)), (1, world.log.attestation(0))) == ["", ""]
    assert world.credited == 0
    assert world.events == ()
    assert world.deposits.tip(VALIDATORS[0].address) == Cursor(3, world.log.hashes[3])
    assert world.deposits.knows(2, world.log.hashes[2])
    assert not world.deposits.knows(1, world.log.hashes[2])
    world.say((2, world.log.attestation(0, 2)))
    assert world.credited == 2
    assert [
        (e.index, e.account, e.asset, amount_from_bytes(e.amount), e.token)
        for e in world.of_type(DepositCredited)
    ] == [(n, DAVE, "USDC", (n + 1) * UNIT, TOKENS["USDC"]) for n in range(2)]
    assert world.balance(DAVE, "USDC") == (3 * UNIT, 0)
    world.say((3, world.log.attestation(2)))
    assert world.balance(DAVE, "USDC") == (6 * UNIT, 0)
    assert world.deposits.credited == Cursor(3, world.log.hashes[3])
    assert not world.deposits.nodes


@pytest.mark.parametrize(
    ("powers", "enough", "too_few"),
    [
        ((1, 1, 1), (0, 1, 2), (0, 1)),
        ((3, 3, 3, 1), (0, 1, 2), (0, 1)),
        ((7, 1, 1, 1), (0,), (1, 2, 3)),
        ((5, 3, 2, 2), (0, 1, 2), (0, 1)),
        ((5, 3, 2, 2), (0, 2, 3), (1, 2, 3)),
        ((2, 1), (0, 1), (0,)),
    ],
)
def test_exactly_two_thirds_are_not_enough(
    powers: tuple[int, ...], enough: tuple[int, ...], too_few: tuple[int, ...]
) -> None:
    world = Watched(powers, count=1)
    world.say(*((n, world.log.attestation(0)) for n in too_few))
    assert world.credited == 0
    world.say(*((n, world.log.attestation(0)) for n in enough if n not in too_few))
    assert world.credited == 1
    other = Watched(powers, count=1)
    other.say(*((n, other.log.attestation(0)) for n in enough))
    assert other.credited == 1


def test_a_validator_counts_once_however_often_it_speaks() -> None:
    world = Watched(count=2)
    world.say(*[(0, world.log.attestation(0))] * 3, (1, world.log.attestation(0)))
    world.say((0, world.log.attestation(0, 1)), (0, world.log.attestation(0)))
    assert world.credited == 0


def test_a_lone_liar_neither_credits_nor_freezes_and_is_named() -> None:
    world = Watched(count=4)
    lie = world.lie(1, count=3)
    world.say((3, lie.attestation(0)))
    assert world.deposits.disagreement is None, "nobody contradicts it yet"
    world.say((0, world.log.attestation(0)))
    (told,) = world.of_type(DepositDisagreement)
    assert told.index == 1
    assert {a for _, addresses in told.sides for a in addresses} == {
        VALIDATORS[0].address,
        VALIDATORS[3].address,
    }
    world.say((1, world.log.attestation(0)), (2, world.log.attestation(0)))
    assert world.credited == 4
    assert world.balance(keccak256(b"liar")[-20:], "USDC") == (0, 0)
    assert world.named() == [(1, [{0, 1, 2}, {3}])]
    assert world.deposits.disagreement is not None
    assert [h for h, _ in world.deposits.disagreement.sides] == [world.log.hashes[2], lie.hashes[2]]
    assert not world.deposits.knows(5, lie.hashes[5])
    world.grow(2)
    world.say(*((n, world.log.attestation(4)) for n in range(3)))
    assert world.credited == 6
    assert world.named() == [(1, [{0, 1, 2}, {3}])]
    world.say((3, lie.attestation(2)))
    assert world.named() == [(1, [{0, 1, 2}, {3}])], "a refused word changes nothing"
    world.say((3, world.log.attestation(2)))
    assert world.named() == [], "until it attests the truth"


def test_a_disagreement_is_told_once() -> None:
    world = Watched(count=2)
    world.say((3, world.lie(0).attestation(0)))
    world.say((0, world.log.attestation(0)))
    told = len(world.of_type(DepositDisagreement))
    for validator in (1, 2):
        world.say((validator, world.log.attestation(0)))
        told += len(world.of_type(DepositDisagreement))
    world.grow(1)
    for validator in (0, 1, 2):
        world.say((validator, world.log.attestation(2)))
        told += len(world.of_type(DepositDisagreement))
    assert world.credited == 3
    assert told <= 2, "once more at most, when the truth became the stronger side"


def test_two_liars_are_both_named() -> None:
    world = Watched((2, 2, 2, 2, 1, 1), count=3)
    first, second = world.lie(1, name=b"one"), world.lie(2, name=b"two")
    world.say((4, first.attestation(0)), (5, second.attestation(0)))
    told = world.of_type(DepositDisagreement)
    world.say(*((n, world.log.attestation(0)) for n in range(4)))
    assert world.credited == 3
    assert world.named() == [(1, [{0, 1, 2, 3}, {4}]), (2, [{0, 1, 2, 3}, {5}])]
    told += world.of_type(DepositDisagreement)
    assert {event.index for event in told} == {1, 2}


def test_half_and_half_credits_neither_until_enough_change_their_mind() -> None:
    world = Watched(count=1)
    lie = world.lie(0)
    world.say(*((n, world.log.attestation(0)) for n in (0, 1)))
    world.say(*((n, lie.attestation(0)) for n in (2, 3)))
    assert world.credited == 0
    assert world.named()[0][1] in ([{0, 1}, {2, 3}], [{2, 3}, {0, 1}])
    world.say((2, world.log.attestation(0)))
    assert world.credited == 1
    assert world.deposits.credited.hash == world.log.hashes[1]
    assert world.named() == [(0, [{0, 1, 2}, {3}])]


def test_a_tip_may_go_up_and_down_and_to_another_log() -> None:
    world = Watched(count=5)
    address = VALIDATORS[0].address
    for action in (
        world.log.attestation(0),
        world.log.attestation(0, 2),
        world.lie(2).attestation(0),
        world.log.attestation(0, 5),
    ):
        world.say((0, action))
        assert world.deposits.tip(address) == Cursor(action.count, action.hash)
        assert len(world.deposits.nodes) == action.count, "what no tip stands on is forgotten"
    held = AttestDeposits(world.log.hashes[3], 3, world.log.hashes[3], ())
    assert world.say((1, held), (1, world.log.attestation(3, 4))) == ["", ""]
    assert world.deposits.tip(VALIDATORS[1].address) == Cursor(4, world.log.hashes[4])


def test_who_lags_behind_is_no_liar() -> None:
    world = Watched(count=4)
    world.say((3, world.log.attestation(0, 2)))
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    assert world.credited == 4
    assert world.named() == []
    assert world.say((3, world.log.attestation(0, 3))) == ["stale_attestation"]
    assert world.say((3, world.log.attestation(0))) == [""], "it passes through what is credited"
    world.grow(2)
    assert world.say((3, world.log.attestation(3))) == [""]
    assert world.deposits.tip(VALIDATORS[3].address) == Cursor(6, world.log.hashes[6])
    assert world.named() == []


def test_whoever_contradicts_what_is_credited_is_named() -> None:
    world = Watched(count=3)
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    lie = world.lie(1, count=4)
    assert world.say((3, lie.attestation(0))) == [""]
    assert world.named() == [(2, [{0, 1, 2}, {3}])]
    assert not world.deposits.nodes
    assert world.say((2, AttestDeposits(lie.hashes[3], 3, lie.hashes[3], ()))) == [""]
    assert world.named() == [(2, [{0, 1}, {2, 3}])] or world.named() == [(2, [{2, 3}, {0, 1}])]
    assert world.say((2, lie.attestation(3))) == [""], "from a parent that is not credited"
    assert world.say((2, world.log.attestation(3)), (3, world.log.attestation(3))) == ["", ""]
    assert world.named() == []


def test_what_can_not_be_followed_is_refused() -> None:
    world = Watched(count=3)
    action = world.log.attestation(0)
    other = Log(bytes(32), world.log.deposits)
    wrong = AttestDeposits(action.parent, 3, bytes(32), action.deposits)
    assert world.say(
        (0, wrong), (0, world.log.attestation(1)), (0, other.attestation(0)), (0, action)
    ) == ["wrong_hash", "unknown_parent", "unknown_parent", ""]
    assert world.say((1, AttestDeposits(bytes(32), 2, bytes(32), ()))) == ["unknown_parent"]


def test_only_validators_attest() -> None:
    world = Watched(count=1)
    action = world.log.attestation(0)
    transaction = Transaction(1, SCHEME_VALIDATOR, STRANGER, world.now_ms, action, bytes(65))
    transaction.set_signer(STRANGER)
    assert world.apply(transaction).results[0].reason == "not_authorised"
    foreign = Transaction(
        1, SCHEME_VALIDATOR, VALIDATORS[0].address, world.now_ms, action, bytes(65)
    )
    foreign.set_signer(STRANGER)
    assert world.apply(foreign).results[0].reason == "not_authorised"
    assert world.deposits.tip(VALIDATORS[0].address) is None


def test_a_validator_keeps_a_bounded_number_of_deposits_in_the_state() -> None:
    world = Watched()
    lie = world.lie(0, count=PENDING_DEPOSITS_MAX + 10)
    step, reasons = ATTESTED_DEPOSITS_MAX, []
    for start in range(0, PENDING_DEPOSITS_MAX, step):
        reasons += world.say((3, lie.attestation(start, start + step)))
    assert set(reasons) == {""}
    assert len(world.deposits.nodes) == PENDING_DEPOSITS_MAX
    end = PENDING_DEPOSITS_MAX
    assert world.say((3, lie.attestation(end, end + 1))) == ["too_far_ahead"]
    for number in range(5):
        other = world.lie(0, count=20, name=b"lie %d" % number)
        world.say((3, other.attestation(0)))
        assert len(world.deposits.nodes) == 21, "a new lie takes the place of the old one"
    world.grow(1)
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    assert world.credited == 1
    assert not world.deposits.nodes


def test_what_comes_and_goes_in_one_block_leaves_no_record() -> None:
    world = Watched(count=2)
    words = [(3, world.lie(0, name=bytes([n])).attestation(0)) for n in range(4)]
    world.say(*words, (3, world.log.attestation(0)))
    assert sum(key[:2] == b"bd" for key in world.database) == 2
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    assert sum(key[:2] == b"bd" for key in world.database) == 0


def test_what_no_balance_can_take_is_passed_over() -> None:
    world = Watched()
    world.log.add(deposit(DAVE, 5, keccak256(b"no token of ours")[-20:]))
    world.log.add(deposit(DAVE, 2**128 - 1, "XOM"))
    world.log.add(deposit(DAVE, 7, "BTC", sub=1_000))
    world.log.add(deposit(DAVE, 8, "BTC", sub=999))
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    assert world.credited == 4
    assert [e.index for e in world.of_type(DepositIgnored)] == [0, 1]
    assert [(e.index, e.subaccount) for e in world.of_type(DepositCredited)] == [(2, 0), (3, 999)]
    assert world.balance(DAVE, "BTC") == (7, 0)
    assert world.balance(DAVE, "BTC", 999) == (8, 0)
    assert world.balance(DAVE, "XOM") == (0, 0)


def test_stake_stands_in_the_same_log_and_its_tokens_are_not_lost() -> None:
    world = Watched(count=1)
    for entry in (
        stake(DAVE, REGISTER, 10**18, b"who"),
        stake(DAVE, ADD_STAKE, 5),
        stake(DAVE, UNSTAKE, 5),
        stake(DAVE, EXIT),
        stake(DAVE, UNJAIL),
    ):
        world.log.add(entry)
    world.grow(1)
    log = world.log
    world.say((0, world.log.attestation(0, 4)), (1, world.log.attestation(0)))
    world.say((2, world.log.attestation(0, 3)), (0, world.log.attestation(4)))
    assert world.credited == 3
    assert world.balance(DAVE, "XOM") == (10**18 + 5, 0)
    world = Watched()
    world.log = log
    world.say(*((n, log.attestation(0)) for n in range(3)))
    assert world.credited == 7
    assert world.deposits.credited.hash == world.log.hashes[7]
    assert world.balance(DAVE, "XOM") == (10**18 + 5, 0)
    assert [e.index for e in world.of_type(DepositCredited)] == [0, 1, 2, 6]
    assert [(e.index, e.kind, e.reason) for e in world.of_type(StakeIgnored)] == [
        (1, REGISTER, "no_staking"),
        (2, ADD_STAKE, "no_staking"),
        (3, UNSTAKE, "no_staking"),
        (4, EXIT, "no_staking"),
        (5, UNJAIL, "no_staking"),
    ]


def test_an_entry_that_no_contract_logs_is_not_made() -> None:
    for kind, amount, identity in (
        (REGISTER, 0, b"who"),
        (REGISTER, 5, b""),
        (ADD_STAKE, 5, b"who"),
        (EXIT, 5, b""),
        (UNJAIL, 0, b"who"),
    ):
        with pytest.raises(ValueError, match="only who"):
            stake(DAVE, kind, amount, identity)


def test_identities_of_an_attestation_are_bounded() -> None:
    full = ATTESTED_IDENTITY_BYTES_MAX // IDENTITY_BYTES_MAX
    entries = tuple(stake(DAVE, REGISTER, 5, b"x" * IDENTITY_BYTES_MAX) for _ in range(full + 1))
    AttestDeposits(bytes(32), 99, bytes(32), entries[:full])
    with pytest.raises(ValueError, match="bytes of identities"):
        AttestDeposits(bytes(32), 99, bytes(32), entries)


def test_the_largest_supply_is_credited_and_nothing_beyond() -> None:
    world = Watched()
    room = 2**128 - 1 - world.exchange.rules.supply[3]
    for amount in (room, 1):
        world.log.add(deposit(ALICE, amount, "XOM"))
    world.say(*((n, world.log.attestation(0)) for n in range(3)))
    assert len(world.of_type(DepositCredited)) == len(world.of_type(DepositIgnored)) == 1
    assert world.exchange.state.bridge.supply(3) == 2**128 - 1


def test_the_order_in_a_block_does_not_matter() -> None:
    one, two = Watched(count=3), Watched(count=3)
    words = [(n, one.log.attestation(0, 1 + n)) for n in range(3)] + [
        (3, one.lie(1).attestation(0))
    ]
    one.say(*words)
    two.say(*reversed(words))
    assert one.credited == two.credited == 1
    assert one.events == two.events
    keep = {k: v for k, v in one.database.items() if k[:1] in b"ab"}
    assert keep == {k: v for k, v in two.database.items() if k[:1] in b"ab"}


def test_who_leaves_the_set_loses_its_voice() -> None:
    """As a new epoch's set will do it: one attribute of the state changes."""
    world = Watched(count=1)
    world.say(*((n, world.log.attestation(0)) for n in (0, 1)))
    members = make_settled_genesis((1, 1)).validator_set
    world.exchange.state.validator_set = members
    world.apply()
    assert world.credited == 1, "power is that of the current set"


def test_networks_without_settlement_take_no_attestation() -> None:
    world = World()
    key = world.exchange.state.validator_set.validators[0].address
    log = Log(world.exchange.rules.hash, [deposit(DAVE, 1)])
    assert world.do(key, log.attestation(0)).reason == "no_settlement"
    assert not any(key[:1] == b"b" for key in world.database)
