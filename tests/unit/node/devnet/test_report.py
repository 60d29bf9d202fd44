"""The last look at a run: what is lost, what is the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio

from omninode.errors import UserError
from omninode.node.devnet.change import Change
from omninode.node.devnet.limits import ANSWER_STOPPED_S, DRAIN_DEADLINE_S
from omninode.node.devnet.money import Comparison, MoneyCounts, NotCompared
from omninode.node.devnet.observer import Seen
from omninode.node.devnet.report import Compared, Run, compare, count_lost, drain, final_document
from omninode.node.devnet.tracker import Sent, Tracker
from omninode.node.funds.backing import AssetBacking, Backing
from omninode.node.funds.chain import BlockId
from omninode.node.funds.terms import AssetTerms, SettlementTerms


class Validator:
    """Answers as a validator's connection does, from a table."""

    def __init__(
        self,
        states: dict[str, str] | None = None,
        hashes: dict[int, str] | None = None,
        *,
        chain_time_ms: int = 0,
    ) -> None:
        self.chain_time_ms = chain_time_ms
        self.connected = True
        self.states = states or {}
        self.hashes = hashes or {}
        self.asked: list[str] = []

    async def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if method == "omni_status":
            return {"block_time_ms": self.chain_time_ms}
        assert params is not None
        if method == "omni_getBlock":
            if params["height"] not in self.hashes:
                raise UserError("unknown_block")
            return {"app_hash": self.hashes[params["height"]]}
        self.asked.append(params["hash"])
        if params["hash"] not in self.states:
            raise UserError("unknown_transaction")
        return {"state": self.states[params["hash"]]}


def pending(tracker: Tracker, identifier: bytes, *, acknowledged: bool = True) -> str:
    sent = Sent(b"", 1, orders=3, measured=True, validator=0, sent_s=0.0, tried_s=0.0)
    tracker.sent(identifier, sent)
    if acknowledged:
        tracker.acknowledged(identifier)
    return "0x" + identifier.hex()


async def lost_of(tracker: Tracker, *validators: Validator, window_ms: int = 10_000) -> int:
    connections: Any = validators
    return await count_lost(tracker, connections, nonce_window_ms=window_ms)


async def test_what_no_validator_proves_is_lost() -> None:
    tracker = Tracker()
    final, expired = pending(tracker, b"f"), pending(tracker, b"e")
    received = pending(tracker, b"r")
    pending(tracker, b"u")
    pending(tracker, b"n", acknowledged=False)
    first = Validator({received: "received", expired: "expired"})
    second = Validator({final: "final"})
    lost = await lost_of(tracker, first, second)
    assert lost == 3 + 3  # still received, and unknown to all; orders are counted
    assert tracker.counts.final == 3
    assert len(first.asked) == len(second.asked) == 5


async def test_a_chain_time_past_the_window_proves_that_it_has_expired() -> None:
    tracker = Tracker()
    final, received = pending(tracker, b"f"), pending(tracker, b"r")
    pending(tracker, b"u")
    late, early = Validator({received: "received"}, chain_time_ms=10_001), Validator()
    assert await lost_of(tracker, early, window_ms=10_000) == 9
    early.states[final] = "final"
    assert await lost_of(tracker, early, late, window_ms=10_000) == 6
    late.chain_time_ms += 1
    assert await lost_of(tracker, early, late, window_ms=10_000) == 0
    assert (tracker.counts.final, tracker.counts.expired) == (3, 6)
    assert not tracker.pending


async def test_a_validator_that_is_gone_is_not_asked() -> None:
    tracker = Tracker()
    identifier = pending(tracker, b"f")
    gone = Validator({identifier: "final"})
    gone.connected = False
    assert await lost_of(tracker, gone) == 3


async def test_draining_ends_when_all_is_settled() -> None:
    change = Change()
    tracker = Tracker(on_settled=change.tell)
    pending(tracker, b"a")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: drain(tracker, change, stopped=False))
        await trio.testing.wait_all_tasks_blocked()
        tracker.block(0, 1, [b"a"], now_s=1.0)
        with trio.move_on_after(5) as scope:
            await trio.testing.wait_all_tasks_blocked()
        assert not scope.cancelled_caught


async def test_draining_gives_up_when_nothing_moves(autojump_clock: trio.abc.Clock) -> None:
    tracker = Tracker()
    pending(tracker, b"a")
    began = trio.current_time()
    await drain(tracker, Change(), stopped=False)
    assert trio.current_time() - began == pytest.approx(DRAIN_DEADLINE_S)
    assert tracker.pending


def observer_of(validators: list[Validator], heights: list[int]) -> Any:
    change = Change()

    async def all_at(height: int, processes: object) -> None:
        await change.until(lambda: all(seen.height >= height for seen in seen_by))

    seen_by = [Seen(height=height, app_hash="0x") for height in heights]
    return SimpleNamespace(connections=validators, seen=seen_by, all_at=all_at)


async def test_hashes_are_compared_at_one_height_of_all(autojump_clock: trio.abc.Clock) -> None:
    """A validator that stays behind decides the height."""
    validators = [Validator(hashes={7: "0xaa"}), Validator(hashes={7: "0xaa", 9: "0xbb"})]
    compared = await compare(observer_of(validators, [7, 9]), [], least_height=5, stopped=False)
    assert compared == Compared(7, ("0xaa", "0xaa"))
    assert compared.same


async def test_a_height_below_a_final_order_is_no_comparison(
    autojump_clock: trio.abc.Clock,
) -> None:
    validators = [Validator(hashes={7: "0xaa"}), Validator(hashes={7: "0xaa", 9: "0xbb"})]
    compared = await compare(observer_of(validators, [7, 9]), [], least_height=9, stopped=False)
    assert compared == Compared(9, (None, "0xbb"))
    assert not compared.same


def test_one_other_hash_is_not_the_same() -> None:
    assert not Compared(1, ("0xaa", "0xab")).same
    assert not Compared(1, ("0xaa", None)).same


def backing(*, missing: int = 0) -> Backing:
    """Return 10 units of one asset on the exchange, and so many fewer in the contract."""
    asset = AssetTerms("USDC", 6, bytes(20))
    terms = SettlementTerms(bytes(32), 31_337, bytes(20), 0, 2, {"USDC": asset})
    row = AssetBacking(asset, 10, 10, 0, 0, 10 - missing)
    return Backing(terms, 7, BlockId(3, "0x"), (row,))


@pytest.mark.parametrize(
    ("lost", "hashes", "final", "backed", "ok"),
    [
        (0, ("0xaa", "0xaa"), 5, backing(), True),
        (1, ("0xaa", "0xaa"), 5, backing(), False),
        (0, ("0xaa", "0xab"), 5, backing(), False),
        (0, ("0xaa", None), 5, backing(), False),
        (0, ("0xaa", "0xaa"), 0, backing(), False),
        (0, ("0xaa", "0xaa"), 5, backing(missing=1), False),
        (0, ("0xaa", "0xaa"), 5, backing(missing=-1), False),
        (0, ("0xaa", "0xaa"), 5, NotCompared("the chain does not answer"), False),
    ],
)
def test_ok_needs_everything(
    lost: int, hashes: tuple[str | None, ...], final: int, backed: Comparison, ok: bool
) -> None:
    document = document_of(lost, hashes, final, backed)
    assert document["ok"] is ok
    assert ("reason" in document) is not ok
    assert document["height"] == 11
    assert document["compared_height"] == 9
    assert document["orders_per_second"] == final / 2
    assert document["validators"][0]["rss_mb"] is None
    assert (document["deposits"], document["withdrawals"], document["checkpoints"]) == (5, 3, 7)


def test_what_was_not_compared_is_not_unequal() -> None:
    why = NotCompared("the chain does not answer")
    document = document_of(0, ("0xaa", "0xaa"), 5, why)
    assert document["supply_equal"] is None
    assert document["reason"] == "both sides were not compared: the chain does not answer"
    assert document_of(0, ("0xaa", "0xaa"), 5, backing(missing=1))["supply_equal"] is False


def test_everything_that_is_wrong_is_told() -> None:
    reason = document_of(2, ("0xaa", "0xab"), 0, backing(missing=1))["reason"]
    for words in ("2 acknowledged", "differ at height 9", "not what the exchange owes", "no order"):
        assert words in reason


def document_of(
    lost: int, hashes: tuple[str | None, ...], final: int, backed: Comparison
) -> dict[str, Any]:
    tracker = Tracker()
    tracker.counts.final = final
    process = SimpleNamespace(node=SimpleNamespace(moniker="node0"), process_id=None)
    return final_document(
        tracker,
        Run(seconds=2.0, trades=4, money=MoneyCounts(5, 3, 7)),
        lost=lost,
        compared=Compared(9, hashes),
        backing=backed,
        observer=observer_of([], [9, 11]),
        processes=[process, process],  # type: ignore[list-item]
    )


async def test_somebody_who_waits_is_not_kept_by_a_silent_validator(
    autojump_clock: trio.abc.Clock,
) -> None:
    class Silent(Validator):
        async def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
            await trio.sleep_forever()
            raise AssertionError

    tracker = Tracker()
    pending(tracker, b"a")
    began = trio.current_time()
    lost = await count_lost(
        tracker,
        [Silent()],  # type: ignore[list-item]
        nonce_window_ms=30_000,
        stopped=True,
    )
    assert lost == 3
    assert trio.current_time() - began == pytest.approx(ANSWER_STOPPED_S)
