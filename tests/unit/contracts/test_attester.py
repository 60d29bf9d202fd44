"""What a validator says about deposits, against the exchange that takes it."""

from __future__ import annotations

import random

from exchange_world import VALIDATORS, Log, World, deposit, make_settled_genesis, stake
from omninode.contracts.attester import contradiction, next_attestation
from omninode.dex.actions import AttestDeposits
from omninode.dex.bridge.deposits import REGISTER, Cursor, LogEntry
from omninode.dex.bridge.limits import (
    ATTESTED_DEPOSITS_MAX,
    ATTESTED_IDENTITY_BYTES_MAX,
    IDENTITY_BYTES_MAX,
    PENDING_DEPOSITS_MAX,
)
from omninode.dex.outcomes import OK
from omninode.dex.transaction import TRANSACTION_BYTES_MAX

ME = VALIDATORS[0].address


class Confirmed:
    """A confirmed log that ends where it is told to."""

    def __init__(self, log: Log, count: int | None = None) -> None:
        self._log = log
        self.count = len(log.deposits) if count is None else count

    @property
    def cursor(self) -> Cursor:
        return Cursor(self.count, self._log.hashes[self.count])

    def deposit_hash(self, count: int) -> bytes | None:
        return self._log.hashes[count] if count <= self.count else None

    def deposits(self, first: int, last: int) -> tuple[LogEntry, ...]:
        return tuple(self._log.deposits[first : min(last, self.count)])


def log_of(world: World, count: int, salt: int = 0) -> Log:
    deposits = [
        deposit(bytes([1 + place % 200]) * 20, 100 + place + salt) for place in range(count)
    ]
    return Log(world.exchange.rules.hash, deposits)


def says(world: World, confirmed: Confirmed, me: bytes = ME) -> AttestDeposits | None:
    deposits = world.exchange.state.bridge.deposits
    return next_attestation(deposits, confirmed.cursor, confirmed, me=me)


def say_all(world: World, confirmed: Confirmed, validators: tuple[int, ...] = (0, 1, 2)) -> int:
    """Let validators say what they have to until they are silent; returns how many blocks."""
    for block in range(100):
        said = [
            world.attest(place, action)
            for place in validators
            if (action := says(world, confirmed, VALIDATORS[place].address)) is not None
        ]
        if not said:
            return block
        assert all(result.code == OK for result in world.apply(*said).results)
    raise AssertionError("they never fall silent")


def test_nothing_to_say_without_deposits() -> None:
    world = World(make_settled_genesis())
    assert says(world, Confirmed(log_of(world, 0))) is None


def test_a_deposit_is_attested_once() -> None:
    world = World(make_settled_genesis())
    log = log_of(world, 1)
    action = says(world, Confirmed(log))
    assert action == log.attestation(0)
    world.apply(world.attest(0, action))
    assert says(world, Confirmed(log)) is None
    assert say_all(world, Confirmed(log)) == 1
    assert world.exchange.state.bridge.deposits.credited == Confirmed(log).cursor
    assert says(world, Confirmed(log)) is None


def test_what_another_has_brought_is_not_brought_again() -> None:
    world = World(make_settled_genesis())
    log = log_of(world, 5)
    world.apply(world.attest(1, log.attestation(0)))
    action = says(world, Confirmed(log))
    assert action is not None
    assert (action.count, action.deposits) == (5, ())
    world.apply(world.attest(0, action))
    assert world.exchange.state.bridge.deposits.tip(ME) == Confirmed(log).cursor


def test_many_deposits_go_in_pieces_and_all_are_credited() -> None:
    world = World(make_settled_genesis())
    log = log_of(world, 2 * PENDING_DEPOSITS_MAX + 30)
    action = says(world, Confirmed(log))
    assert action is not None
    assert len(action.deposits) == ATTESTED_DEPOSITS_MAX
    say_all(world, Confirmed(log))
    assert world.exchange.state.bridge.deposits.credited == Confirmed(log).cursor


def test_large_identities_go_in_smaller_pieces() -> None:
    world = World(make_settled_genesis())
    entries = [
        stake(bytes([1 + place]) * 20, REGISTER, 5, b"\xee" * IDENTITY_BYTES_MAX)
        for place in range(ATTESTED_DEPOSITS_MAX)
    ]
    log = Log(world.exchange.rules.hash, [deposit(b"\1" * 20, 5), *entries])
    action = says(world, Confirmed(log))
    assert action is not None
    assert len(action.deposits) == 1 + ATTESTED_IDENTITY_BYTES_MAX // IDENTITY_BYTES_MAX
    assert len(world.attest(0, action).raw) < TRANSACTION_BYTES_MAX
    say_all(world, Confirmed(log))
    assert world.exchange.state.bridge.deposits.credited == Confirmed(log).cursor


def test_alone_it_goes_no_further_than_the_state_takes() -> None:
    world = World(make_settled_genesis())
    log = log_of(world, PENDING_DEPOSITS_MAX + 50)
    say_all(world, Confirmed(log), (0,))
    tip = world.exchange.state.bridge.deposits.tip(ME)
    assert tip is not None
    assert tip.count == PENDING_DEPOSITS_MAX


def test_one_that_is_behind_is_silent() -> None:
    world = World(make_settled_genesis())
    log = log_of(world, 6)
    say_all(world, Confirmed(log), (1, 2, 3))
    assert says(world, Confirmed(log, 4)) is None
    behind = Confirmed(log, 4)
    assert contradiction(world.exchange.state.bridge.deposits, behind.cursor, behind) == ""


def test_a_tip_that_is_not_on_the_chain_any_more_is_replaced() -> None:
    world = World(make_settled_genesis())
    wrong, right = log_of(world, 3, salt=7), log_of(world, 2)
    world.apply(world.attest(0, wrong.attestation(0)))
    action = says(world, Confirmed(right))
    assert action == right.attestation(0)
    say_all(world, Confirmed(right))
    assert world.exchange.state.bridge.deposits.credited == Confirmed(right).cursor


def test_credited_deposits_that_are_not_on_the_chain_are_objected_to_once() -> None:
    world = World(make_settled_genesis())
    false, right = log_of(world, 3, salt=7), log_of(world, 5)
    say_all(world, Confirmed(false), (1, 2, 3))
    state = world.exchange.state.bridge.deposits
    confirmed = Confirmed(right)
    assert "not those on the chain" in contradiction(state, confirmed.cursor, confirmed)
    action = says(world, confirmed)
    assert action is not None
    world.apply(world.attest(0, action))
    assert state.disagreement is not None
    assert any(ME in addresses for _, addresses in state.disagreement.sides)
    assert says(world, confirmed) is None


def test_one_that_went_astray_and_sees_the_truth_says_so_once() -> None:
    """Its false deposits were below what is credited now, up to it, or further on."""
    for below, false_count in ((0, 2), (0, 3), (1, 7), (2, 3)):
        world = World(make_settled_genesis())
        state = world.exchange.state.bridge.deposits
        right = log_of(world, 3)
        false = Log(right.hashes[0], [*right.deposits[:below], *log_of(world, 7, 9).deposits])
        say_all(world, Confirmed(right, below))
        world.apply(world.attest(0, false.attestation(below, false_count)))
        say_all(world, Confirmed(right), (1, 2, 3))
        assert state.credited == Confirmed(right).cursor
        assert state.disagreement is not None
        assert says(world, Confirmed(right, 2)) is None  # has yet to see what is credited

        action = says(world, Confirmed(right))
        assert action == AttestDeposits(right.hashes[3], 3, right.hashes[3], ())
        [result] = world.apply(world.attest(0, action)).results
        assert result.code == OK
        assert state.disagreement is None
        assert all(says(world, Confirmed(right), one.address) is None for one in VALIDATORS[:4])


def test_what_is_not_known_to_be_false_is_not_taken_back() -> None:
    """Its log ends below what it attested, as that of one that follows the chain anew does."""
    world = World(make_settled_genesis())
    state = world.exchange.state.bridge.deposits
    right = log_of(world, 5)
    say_all(world, Confirmed(right, 2), (0, 1, 2, 3))
    false = Log(right.hashes[0], [*right.deposits[:2], *log_of(world, 2, 9).deposits])
    for place, log in ((0, right), (1, false)):
        world.apply(world.attest(place, log.attestation(2)))
        assert all(says(world, Confirmed(right, 2), v.address) is None for v in VALIDATORS[:4])
    assert state.disagreement is not None
    say_all(world, Confirmed(right), (0, 1, 2, 3))
    assert state.credited == Confirmed(right).cursor
    assert state.disagreement is None


def test_validators_at_different_places_of_one_log_always_get_it_credited(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10):
        world = World(make_settled_genesis())
        log = log_of(world, chance.randrange(1, 400))
        places = [Confirmed(log, 0) for _ in range(4)]
        for _ in range(60):
            for confirmed in places:
                confirmed.count = min(
                    len(log.deposits), confirmed.count + chance.choice([0, 0, 1, 3, 40, 200])
                )
            said = [
                world.attest(place, action)
                for place, confirmed in enumerate(places)
                if chance.random() < 0.7
                and (action := says(world, confirmed, VALIDATORS[place].address)) is not None
            ]
            assert all(result.code == OK for result in world.apply(*said).results), seed
        say_all(world, Confirmed(log), (0, 1, 2, 3))
        assert world.exchange.state.bridge.deposits.credited == Confirmed(log).cursor
        assert world.exchange.state.bridge.deposits.disagreement is None
