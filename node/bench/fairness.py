"""What a block's leader gains by knowing its beacon: in the open lane, and in the sealed one.

The exchange itself executes every block. One market, anew each round: a ladder of bids and offers
around a fair price, and traders whose immediate orders go some way beyond the best price. Whoever
preys on a trader takes the offers up to some price within its limit, and offers its size again at
that price; on a seller likewise. That pays only for an account whose turn comes before the
trader's, and turns go by rank (PROTOCOL.md P4).

| who | sees the orders | knows the ranks | does |
| --- | --- | --- | --- |
| leader, open lane | yes | yes: it signs the beacon | what pays most, with many accounts |
| trader, open lane | yes | no | what pays most on average, with one account |
| leader, sealed lane | once they are revealed | yes, in the block that clears | what pays most |

A gain is what its accounts are worth at the fair price after the block, less what they were before.
Doing nothing is always one of the choices.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from omninode.crypto import SIGNATURE_BYTES, SigningKey, checksum_address, keccak256
from omninode.dex.actions import Action, Batch, CommitSealed, PlaceOrder, RevealSealed, Side
from omninode.dex.decimals import format_units
from omninode.dex.events import SealedCleared
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisValidator,
    check_genesis,
)
from omninode.dex.outcomes import BlockInput, BlockOutcome
from omninode.dex.sealed.commitment import make_commitment
from omninode.dex.transaction import SCHEME_WALLET, Transaction

MARKET: Final = "XOM-USDC"
FAIR: Final = 10_000
"""The fair price in ticks: a tick is one basis point."""

LEVELS: Final = 40
LEVEL_STEP: Final = 5
LEVEL_SIZES: Final = (100, 400)
TRADERS: Final = 4
TRADER_SIZES: Final = (50, 1_000)
SLIPPAGES: Final = (10, 50, 100, 200)
"""How far beyond the best price a trader goes, in ticks."""

LEADER_ACCOUNTS: Final = 8
PRICES_TRIED: Final = 6
PREY_MAX: Final = 3
GUESSES: Final = 8
"""Beacons over which somebody who does not know the real one takes the mean."""

BOND: Final = "20"
_GENESIS_TIME_MS: Final = 1_700_000_000_000
_PLENTY: Final = "1000000"

_MAKER: Final = keccak256(b"maker")[-20:]
_TRADERS: Final = tuple(keccak256(b"trader %d" % n)[-20:] for n in range(TRADERS))
_LEADER: Final = tuple(keccak256(b"leader %d" % n)[-20:] for n in range(LEADER_ACCOUNTS))
_SALT: Final = bytes(32)


class Prey(NamedTuple):
    """One attack: on which trader, at which price in ticks, with how many lots in the way."""

    trader: int
    price: int
    in_the_way: int


class Round(NamedTuple):
    """What one round is drawn as: the state with the ladder, and the traders' orders."""

    exchange: Exchange
    ladder: tuple[PlaceOrder, ...]
    orders: tuple[PlaceOrder, ...]


def bench_fairness(rounds: int, seed: int) -> dict[str, Any]:
    """Measure the gains.

    Args:
        rounds: Blocks of each lane.
        seed: What everything is drawn from.

    Returns:
        Gains in USDC per block and, of what the traders traded, in basis points.
    """
    rng = random.Random(seed)
    leader = trader = sealed = sealed_lots = notional = 0
    for number in range(rounds):
        drawn = _draw(rng)
        beacon = keccak256(b"beacon %d %d" % (seed, number))
        guesses = [keccak256(b"guess %d %d" % (number, guess)) for guess in range(GUESSES)]
        preys = _preys(drawn)
        leader += _greedy(drawn, preys, [beacon], beacon, accounts=_LEADER)
        trader += _greedy(drawn, preys, guesses, beacon, accounts=_LEADER[:1])
        gained, traded = _greedy_sealed(drawn, preys, beacon)
        sealed += gained
        sealed_lots += traded
        notional += sum(int(order.size) for order in drawn.orders)
    per_usdc = rounds * 10**6
    figures = {
        "traders_usdc_per_block": notional / rounds,
        "open_leader_usdc_per_block": leader / per_usdc,
        "open_trader_usdc_per_block": trader / per_usdc,
        "open_leader_advantage_usdc_per_block": (leader - trader) / per_usdc,
        "open_leader_advantage_bp": (leader - trader) / notional / 100,
        "sealed_leader_usdc_per_block": sealed / per_usdc,
        "sealed_traded_xom_per_block": sealed_lots / rounds,
    }
    return {"rounds": rounds, "seed": seed} | {k: round(v, 3) for k, v in figures.items()}


def _draw(rng: random.Random) -> Round:
    """Draw a ladder and orders, and put the ladder into a fresh book."""
    ladder = [
        _order(side, rng.randint(*LEVEL_SIZES), FAIR + sign * LEVEL_STEP * level)
        for side, sign in (("buy", -1), ("sell", 1))
        for level in range(1, LEVELS + 1)
    ]
    orders = []
    for _ in range(TRADERS):
        sign = rng.choice((-1, 1))
        limit = FAIR + sign * (LEVEL_STEP + rng.choice(SLIPPAGES))
        side: Side = "buy" if sign > 0 else "sell"
        orders.append(_order(side, rng.randint(*TRADER_SIZES), limit, tif="ioc"))
    exchange = Exchange.genesis(fairness_genesis())
    _apply(exchange, [_sign(exchange, _MAKER, Batch((), (), tuple(ladder)))], seed=bytes(32))
    return Round(exchange, tuple(ladder), tuple(orders))


def _preys(drawn: Round) -> list[Prey]:
    """List the attacks that may pay: prices between the best one and a trader's limit."""
    found = []
    for trader, order in enumerate(drawn.orders):
        limit = _ticks(order)
        sign = 1 if order.side == "buy" else -1
        best = FAIR + sign * LEVEL_STEP
        for step in range(1, PRICES_TRIED + 1):
            price = best + (limit - best) * step // PRICES_TRIED
            in_the_way = sum(
                int(level.size)
                for level in drawn.ladder
                if level.side != order.side and sign * (_ticks(level) - price) <= 0
            )
            found.append(Prey(trader, price, in_the_way))
    return found


def _greedy(
    drawn: Round,
    preys: Sequence[Prey],
    known: Sequence[bytes],
    beacon: bytes,
    *,
    accounts: Sequence[bytes],
) -> int:
    """Choose attacks one by one as long as they pay by `known`; return the gain under `beacon`."""
    chosen: list[tuple[Prey, bytes]] = []
    best = 0
    while len(chosen) < PREY_MAX:
        tried = []
        for prey in preys:
            account = _account_before(prey, known, accounts)
            if account is not None and all(prey.trader != other.trader for other, _ in chosen):
                attack = [*chosen, (prey, account)]
                gains = [_open_gain(drawn, attack, seed) for seed in known]
                tried.append((sum(gains) // len(gains), attack))
        gain, attack = max(tried, key=lambda pair: pair[0], default=(0, []))
        if gain <= best:
            break
        best, chosen = gain, attack
    return _open_gain(drawn, chosen, beacon) if chosen else 0


def _account_before(prey: Prey, known: Sequence[bytes], accounts: Sequence[bytes]) -> bytes | None:
    """Return the account whose turn comes next before the trader's; any, if beacons are many."""
    if len(known) > 1:
        return accounts[0]
    trader = _rank(known[0], _TRADERS[prey.trader])
    before = [account for account in accounts if _rank(known[0], account) < trader]
    return max(before, key=lambda account: _rank(known[0], account), default=None)


def _rank(seed: bytes, account: bytes) -> bytes:
    return keccak256(seed + account)


def _open_gain(drawn: Round, attack: Sequence[tuple[Prey, bytes]], seed: bytes) -> int:
    """Return what an attack gains in a block of the open lane."""
    exchange = _copy(drawn.exchange)
    body = [
        _sign(exchange, account, order)
        for account, order in zip(_TRADERS, drawn.orders, strict=True)
    ]
    body += _attack(exchange, drawn, attack)
    before = _worth(exchange)
    _apply(exchange, body, seed=seed)
    return _worth(exchange) - before


def _attack(
    exchange: Exchange, drawn: Round, attack: Sequence[tuple[Prey, bytes]]
) -> list[Transaction]:
    """Sign what an attack adds to a block: take what is in the way, offer the size again."""
    made = []
    for place, (prey, account) in enumerate(attack):
        order = drawn.orders[prey.trader]
        other: Side = "sell" if order.side == "buy" else "buy"
        resting = _order(other, int(order.size), prey.price)
        taking = _order(order.side, max(1, prey.in_the_way), prey.price, tif="ioc")
        made.append(_sign(exchange, account, Batch((), (), (taking, resting)), place))
    return made


def _greedy_sealed(drawn: Round, preys: Sequence[Prey], beacon: bytes) -> tuple[int, int]:
    """Let the leader of the block that clears the same orders, sealed, do what pays most.

    Returns:
        Its gain, and the lots that the auction traded.
    """
    exchange = _copy(drawn.exchange)
    hidden = [(_MAKER, order, b"%d" % n) for n, order in enumerate(_sealed_ladder(drawn))]
    hidden += [
        (account, order, b"trader") for account, order in zip(_TRADERS, drawn.orders, strict=True)
    ]
    commits = []
    for place, (account, order, salt) in enumerate(hidden):
        commitment = make_commitment(account, order, keccak256(salt))
        action = CommitSealed(0, MARKET, BOND, commitment)
        commits.append(_sign(exchange, account, action, place))
    terms = exchange.rules.sealed
    _apply(exchange, commits, seed=beacon)
    _apply(exchange, [], seed=beacon, after_ms=terms.collect_ms)
    reveals = [
        _sign(exchange, account, RevealSealed(commit.hash, order, keccak256(salt)), place)
        for place, ((account, order, salt), commit) in enumerate(zip(hidden, commits, strict=True))
    ]
    _apply(exchange, reveals, seed=beacon)
    _apply(exchange, [], seed=beacon, after_ms=terms.window_ms)
    best = 0
    for prey in preys:
        trial = _copy(exchange)
        before = _worth(trial)
        _apply(trial, _attack(trial, drawn, [(prey, _LEADER[0])]), seed=beacon)
        best = max(best, _worth(trial) - before)
    cleared = _apply(exchange, [], seed=beacon)
    traded = sum(event.lots for event in cleared.events if isinstance(event, SealedCleared))
    return best, traded


def _sealed_ladder(drawn: Round) -> list[PlaceOrder]:
    """Return the inner part of the ladder: an account has so many commitments."""
    inner = LEVELS // 2 * LEVEL_STEP
    return [order for order in drawn.ladder if abs(_ticks(order) - FAIR) <= inner]


def fairness_genesis() -> Genesis:
    """Return a genesis of one market with the usual fees, and accounts with enough of both."""
    key = SigningKey(keccak256(b"omninode bench validator"))
    fees = checksum_address(keccak256(b"omninode bench fees")[-20:])
    genesis = Genesis(
        chain_id="omninode-bench",
        settlement_chain_id=0,
        genesis_time_ms=_GENESIS_TIME_MS,
        fees=FeeShares(treasury=fees, development=fees),
        validators=(
            GenesisValidator(
                moniker="bench",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id="none",
                power=1,
            ),
        ),
        assets=(GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="XOM", decimals=6)),
        markets=(GenesisMarket(name=MARKET, base="XOM", quote="USDC", tick="0.0001", lot="1"),),
        balances=tuple(
            GenesisBalance(address=checksum_address(account), asset=asset, amount=_PLENTY)
            for account in (_MAKER, *_TRADERS, *_LEADER)
            for asset in ("USDC", "XOM")
        ),
    )
    check_genesis(genesis)
    return genesis


def _order(side: str, size: int, price: int, tif: str = "gtc") -> PlaceOrder:
    text = format_units(price, 4)
    return PlaceOrder(0, MARKET, side, "limit", str(size), text, tif, False, 0, "")  # type: ignore[arg-type]


def _ticks(order: PlaceOrder) -> int:
    whole, _, fraction = order.price.partition(".")
    return int(whole + fraction.ljust(4, "0"))


def _sign(exchange: Exchange, account: bytes, action: Action, place: int = 0) -> Transaction:
    """Return a transaction that counts as signed."""
    nonce = exchange.time_ms + place
    made = Transaction(1, SCHEME_WALLET, account, nonce, action, bytes(SIGNATURE_BYTES))
    made.set_signer(account)
    return made


def _copy(exchange: Exchange) -> Exchange:
    return Exchange.load(exchange.rules, exchange.records())


def _apply(
    exchange: Exchange, body: Sequence[Transaction], *, seed: bytes, after_ms: int = 100
) -> BlockOutcome:
    height, time_ms = exchange.height, exchange.time_ms + after_ms
    block = BlockInput(height + 1, time_ms, seed, body, executed_height=height, beacon=seed)
    outcome = exchange.apply(block)
    assert all(result.code == "ok" for result in outcome.results), outcome.results
    return outcome


def _worth(exchange: Exchange) -> int:
    """Return what the attacker's accounts have at the fair price, in base units of USDC."""
    worth = 0
    for address in _LEADER:
        account = exchange.state.accounts.account(address, 0)
        usdc, xom = account.balance(0), account.balance(1)
        worth += usdc.free + usdc.held + (xom.free + xom.held) * FAIR // 10_000
    return worth
