"""The auction against brute force, and whole batches against what must always hold."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from exchange_world import ALICE, BOB, BTC, CAROL, SALT, TERMS, Lane, order
from omninode.crypto import keccak256
from omninode.dex.accounts import Account, Owner
from omninode.dex.actions import CommitSealed, PlaceOrder, RevealSealed
from omninode.dex.book import Order
from omninode.dex.decimals import format_units
from omninode.dex.events import BondBurnt, OrderUpdated, SealedCleared, Trade
from omninode.dex.exchange import Exchange
from omninode.dex.outcomes import BlockInput
from omninode.dex.sealed.auction import clear
from omninode.dex.sealed.commitment import make_commitment, rank_of
from omninode.dex.transaction import order_id

LOW, HIGH = 1, 12

orders = st.lists(
    st.tuples(st.booleans(), st.integers(LOW, HIGH), st.integers(1, 9)), min_size=0, max_size=14
)


def make(specs: list[tuple[bool, int, int]]) -> list[Order]:
    account = Account(Owner(ALICE), 0)
    return [
        Order(bytes([n]), account, BTC, is_buy, price, size, "limit", "gtc", False, "", 1, 1)
        for n, (is_buy, price, size) in enumerate(specs)
    ]


def demand(batch: list[Order], price: int) -> int:
    return sum(o.remaining for o in batch if o.is_buy and o.price >= price)


def supply(batch: list[Order], price: int) -> int:
    return sum(o.remaining for o in batch if not o.is_buy and o.price <= price)


@settings(max_examples=1_000)
@given(orders)
def test_the_price_is_the_best_of_all_prices(specs: list[tuple[bool, int, int]]) -> None:
    """U2, by trying every price there is."""
    batch = make(specs)
    merits = {
        price: (min(d, s), -abs(d - s))
        for price in range(LOW - 1, HIGH + 2)
        for d, s in [(demand(batch, price), supply(batch, price))]
    }
    found = clear(batch)
    best = max(merits.values())
    if not best[0]:
        assert found == (0, 0, ())
        return
    good = [price for price, merit in merits.items() if merit == best]
    assert good == list(range(good[0], good[-1] + 1))
    assert (found.price, found.lots) == ((good[0] + good[-1]) // 2, best[0])


@settings(max_examples=1_000)
@given(orders)
def test_who_trades_is_who_should(specs: list[tuple[bool, int, int]]) -> None:
    """U1 and U3: no fill beyond a limit, the small side whole, better limits and ranks first."""
    batch = make(specs)
    found = clear(batch)
    given_lots = {o.order_id: lots for o, lots in found.fills}
    assert [o for o, _ in found.fills] == [o for o in batch if o.order_id in given_lots]
    for is_buy in (True, False):
        side = [o for o in batch if o.is_buy is is_buy]
        filled = sum(given_lots.get(o.order_id, 0) for o in side)
        assert filled == found.lots
        for place, one in enumerate(side):
            lots = given_lots.get(one.order_id, 0)
            assert 0 <= lots <= one.remaining
            if lots:
                assert one.price >= found.price if is_buy else one.price <= found.price
            for later, other in enumerate(side):
                is_worse = other.price < one.price if is_buy else other.price > one.price
                is_behind = is_worse or (other.price == one.price and later > place)
                if is_behind and given_lots.get(other.order_id):
                    assert lots == one.remaining


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=2, max_size=20, unique=True))
def test_leaving_an_order_out_moves_no_other(commitments: list[bytes]) -> None:
    seed, beacon = keccak256(b"seed"), keccak256(b"beacon")

    def ranked(some: list[bytes]) -> list[bytes]:
        return sorted(some, key=lambda c: rank_of(seed, beacon, c))

    everyone = ranked(commitments)
    for left_out in commitments:
        rest = [c for c in commitments if c != left_out]
        assert ranked(rest) == [c for c in everyone if c != left_out]


hidden_orders = st.builds(
    lambda is_buy, price, lots, kind: order(
        "buy" if is_buy else "sell",
        format_units(lots * 1_000_003, 8),
        "" if kind == "market" else format_units(price, 2),
        tif="gtc" if kind == "gtc" else "ioc",
    ),
    is_buy=st.booleans(),
    price=st.integers(999_900, 1_000_100),
    lots=st.integers(1, 300),
    kind=st.sampled_from(["gtc", "gtc", "ioc", "market"]),
)
batches = st.lists(
    st.tuples(
        st.sampled_from([ALICE, BOB, CAROL]),
        hidden_orders,
        st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(batches, st.binary(min_size=32, max_size=32))
def test_a_batch_keeps_every_promise(
    specs: list[tuple[bytes, PlaceOrder, bool]], beacon: bytes
) -> None:
    """One price, no fill beyond a limit, nothing made or lost, and a restart changes nothing."""
    lane = Lane()
    lane.place(CAROL, "sell", "0.01", "10000.5")
    lane.place(BOB, "buy", "0.02", "10000.5")
    commits = [
        lane.transaction(who, CommitSealed(0, BTC, "300", make_commitment(who, what, SALT)))
        for who, what, _ in specs
    ]
    lane.apply(*commits)
    lane.open_window()
    shown = [
        lane.transaction(who, RevealSealed(commit.hash, what, SALT))
        for (who, what, reveals), commit in zip(specs, commits, strict=True)
        if reveals
    ]
    outcome = lane.apply(*shown)
    sent = [commit.hash for commit, spec in zip(commits, specs, strict=True) if spec[2]]
    codes = [result.code for result in outcome.results]
    revealed = {commit for commit, code in zip(sent, codes, strict=True) if code == "ok"}
    lane.apply(after_ms=TERMS.window_ms)
    copy = Exchange.load(lane.exchange.rules, lane.database.items())
    height = lane.exchange.height
    cleared_by = lane.apply(beacon=beacon)  # checks conservation and every hold
    block = BlockInput(
        height + 1, lane.now_ms, lane.seed, (), executed_height=height, beacon=beacon
    )
    assert copy.apply(block) == cleared_by
    assert len(lane.of_type(BondBurnt)) == len(specs) - len(revealed)
    assert not lane.exchange.state.sealed.by_commit
    cleared = {event.price for event in lane.of_type(SealedCleared)}
    mine = {order_id(commit, 0) for commit in revealed}
    sealed = [t for t in lane.of_type(Trade) if {t.taker_order_id, t.maker_order_id} <= mine]
    assert len({trade.price for trade in sealed} | {p for p in cleared if p}) <= 1
    limits = {update.order.order_id: update.order for update in lane.of_type(OrderUpdated)}
    for trade in lane.of_type(Trade):
        for identifier in (trade.taker_order_id, trade.maker_order_id):
            record = limits[identifier]
            assert trade.price <= record.price if record.is_buy else trade.price >= record.price
    assert mine <= limits.keys()


def test_the_larger_side_is_rationed_by_the_beacon() -> None:
    """With many beacons every one of two equal orders comes first about as often."""
    first = 0
    for number in range(60):
        lane = Lane()
        specs = [(ALICE, "buy"), (BOB, "buy"), (CAROL, "sell")]
        ids = []
        for who, side in specs:
            hidden = order(side, "0.1", "10000", tif="ioc")
            commit, _ = lane.commit(who, hidden)
            ids.append((who, commit, hidden))
        lane.open_window()
        for who, commit, hidden in ids:
            assert lane.reveal(who, commit, hidden).code == "ok"
        lane.close_and_clear(beacon=keccak256(bytes([number])))
        [trade] = lane.of_type(Trade)
        first += trade.taker == ALICE
    assert 15 <= first <= 45
