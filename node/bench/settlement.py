"""The benchmark of the settlement: a devnet with its own EVM chain, under the recorded load.

Four validators, blocks of the chain every second, checkpoints every second, four accounts that
deposit, withdraw and claim all the time. The recording has long pauses without a trade, so one more
account takes a unit from the house's quotes every `FILL_INTERVAL_S`.

Measured are, all in this process, as a client, on one monotonic clock:

* **fill → checkpoint**: from the moment the client has read a trade on its subscription to the
  first validator (the block is final and stored there) to the moment it has read, from the chain's
  own RPC, a block's `Checkpointed` event with the trade's height or a higher one.
* **deposit → credited**: from having read a mined block's `Deposited` event at the chain's own RPC
  to having read at the first validator that so many deposits are credited.
* **withdrawal → claimable**: from having read at the first validator that the withdrawal is final
  to its `omni_getWithdrawalProof` giving the proof that the contract takes.

What is asked for is asked every `POLL_S`, so a moment is late by up to that and the answer's way.
Waits that begin while the load runs count, also if they end after it; those that the end of the
network cuts off are told as `open`.

Calls per block are what the validators ask the chain for themselves, follower and relay, over the
time of the load: without what they pass on for clients, per block of the chain and validator.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any, Final, NoReturn

import trio

from omninode.contracts.endpoint import Endpoint
from omninode.dex.actions import PlaceOrder
from omninode.dex.eip712 import Domain
from omninode.dex.replay import Replay
from omninode.errors import ChainError, UserError
from omninode.node.bench.endpoint_calls import read_own_calls
from omninode.node.bench.network import Tell, Trial, processor_s, run_trial
from omninode.node.bench.waits import Waits
from omninode.node.devnet.accounts import PEOPLE
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection
from omninode.node.devnet.flow import Request
from omninode.node.devnet.house import Side
from omninode.node.devnet.layout import VALIDATORS_DEFAULT
from omninode.node.devnet.limits import CALL_TIMEOUT_S
from omninode.node.devnet.processes import resident_megabytes
from omninode.node.devnet.sender import Sender
from omninode.node.devnet.service import Devnet, Pace
from omninode.node.funds.calls import CHECKPOINTED, DEPOSITED, topic
from omninode.node.funds.chain import SettlementChain

Document = dict[str, Any]

POLL_S: Final = 0.1
"""So often the chain and the first validator are asked what is new."""

FILL_INTERVAL_S: Final = 0.1
"""So often a unit is bought from the house or sold to it, at every moment of a second alike."""

TAKER: Final = PEOPLE[0]
TAKEN_MARKET: Final = "XOM-USDC"
TAKER_ORDERS: Final[tuple[tuple[Side, str], ...]] = (("buy", "1.01"), ("sell", "0.99"))
"""What takes the quotes of the house (H3 of `devnet.house`)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """What is compared between the beginning and the end of the load."""

    at_s: float
    own_calls: Counter[str]
    chain_block: int
    chain_processor_s: float | None


class Probe:
    """The client that measures.

    Attributes:
        fills: Waits of trades for a checkpoint's height.
        deposits: Waits of deposits for being credited, by index.
        withdrawals: Waits of withdrawals for a proof, by number.
    """

    def __init__(self, seconds: float) -> None:
        self.fills: Final = Waits()
        self.deposits: Final = Waits()
        self.withdrawals: Final = Waits()
        self._seconds = seconds
        self._began: Final = trio.Event()
        self._ends_s = 0.0
        self._is_measuring = False
        self._moments: list[Moment] = []
        self._chain_block = 0
        self._chain_rss_mb: float | None = None
        self._checkpoints = 0
        self._withdrawn = 0

    def begin(self) -> None:
        """Say that the load begins."""
        self._ends_s = trio.current_time() + self._seconds
        self._began.set()

    async def run(self, devnet: Devnet) -> None:
        """Measure a devnet; goes on after its load with the waits that are open."""
        await self._began.wait()
        world = devnet.world
        endpoint = Endpoint(world.chain.url, timeout_s=CALL_TIMEOUT_S)
        chain = SettlementChain(endpoint.call)
        connection = Connection(
            world.nodes[0].websocket_url,
            on_connect=partial(_subscribe, [market.name for market in world.genesis.markets]),
            on_notice=self._take_notice,
            on_change=lambda: None,
        )
        try:
            self._chain_block = (await chain.newest()).number
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection.run)
                nursery.start_soon(self._watch_chain, chain, world.plan.contract)
                nursery.start_soon(self._watch_money, connection)
                await self._measure(devnet)
        finally:
            with trio.CancelScope(shield=True):
                await endpoint.close()

    async def _measure(self, devnet: Devnet) -> None:
        """Let waits begin while the load runs, and look at the totals before and after."""
        self._moments.append(await self._moment(devnet))
        self._is_measuring = True
        with trio.move_on_at(self._ends_s):
            await _take_quotes(devnet)
        self._is_measuring = False
        chain = devnet.settlement.process
        self._chain_rss_mb = None if chain is None else resident_megabytes(chain.process_id)
        self._moments.append(await self._moment(devnet))

    async def _moment(self, devnet: Devnet) -> Moment:
        chain = devnet.settlement.process
        own_calls = await read_own_calls([node.metrics_url for node in devnet.world.nodes])
        return Moment(
            at_s=trio.current_time(),
            own_calls=own_calls,
            chain_block=self._chain_block,
            chain_processor_s=None if chain is None else processor_s(chain.process_id),
        )

    def _take_notice(self, notice: Document) -> None:
        if notice["channel"] == "trades" and self._is_measuring:
            now_s = trio.current_time()
            for _ in notice["trades"]:
                self.fills.begin(notice["height"], now_s=now_s)

    async def _watch_chain(self, chain: SettlementChain, contract: bytes) -> NoReturn:
        """Read the contract's events of every new block, as soon as there is one."""
        kinds = (topic(CHECKPOINTED), topic(DEPOSITED))
        while True:
            with suppress(ChainError):  # it has been stopped, at the end
                newest = (await chain.newest()).number
                if newest > self._chain_block:
                    first = self._chain_block + 1
                    for log in await chain.logs(contract, kinds, first=first, last=newest):
                        self._take_log(log)
                    self._chain_block = newest
            await trio.sleep(POLL_S)

    def _take_log(self, log: Document) -> None:
        kind, first, second = log["topics"][:3]
        now_s = trio.current_time()
        if kind == topic(CHECKPOINTED):
            self.fills.reach(int(second, 16), now_s=now_s)
            self._checkpoints += self._is_measuring
        elif self._is_measuring:
            self.deposits.begin(int(first, 16), now_s=now_s)

    async def _watch_money(self, connection: Connection) -> NoReturn:
        """Ask the first validator what is credited, withdrawn and claimable."""
        while True:
            with suppress(UserError):  # no connection yet, or not any more
                supply = await connection.call("omni_getSupply")
                now_s = trio.current_time()
                self.deposits.reach(int(supply["deposits"]["count"]) - 1, now_s=now_s)
                count = int(supply["withdrawals"]["count"])
                if self._is_measuring:
                    for index in range(self._withdrawn, count):
                        self.withdrawals.begin(index, now_s=now_s)
                self._withdrawn = count
            await self._read_proofs(connection)
            await trio.sleep(POLL_S)

    async def _read_proofs(self, connection: Connection) -> None:
        """Ask for the proof of the oldest withdrawal without one, until there is none."""
        with suppress(UserError):  # `not_checkpointed`
            while (index := self.withdrawals.next_mark) is not None:
                await connection.call("omni_getWithdrawalProof", {"id": index})
                self.withdrawals.reach(index, now_s=trio.current_time())

    def document(self, validators: int) -> Document:
        """Return what was measured.

        Args:
            validators: How many there were.
        """
        before, after = self._moments
        seconds, blocks = after.at_s - before.at_s, after.chain_block - before.chain_block
        return {
            "fill_to_checkpoint_ms": self.fills.document(),
            "deposit_to_credited_ms": self.deposits.document(),
            "withdrawal_to_claimable_ms": self.withdrawals.document(),
            "checkpoints": self._checkpoints,
            "chain": {
                "blocks": blocks,
                "cores": _cores(before, after, seconds),
                "rss_mb": self._chain_rss_mb,
            },
            "calls_per_chain_block": per_block(
                after.own_calls - before.own_calls, blocks * validators
            ),
        }


def run_settlement(seconds: float, replay: Replay, *, tell: Tell) -> Document:
    """Run one devnet at default speed and return what was measured.

    Args:
        seconds: How long the load runs.
        replay: The recorded flow.
        tell: Told the progress.

    Raises:
        UserError: It did not start, or made no progress.
    """
    load_average = round(os.getloadavg()[0], 1)
    probe = Probe(seconds)
    figures = run_trial(Trial(Pace(for_s=seconds)), replay, tell=tell, beside=probe)
    return {
        "ok": figures["ok"],
        "seconds": figures["seconds"],
        "load_average_before": load_average,
        **probe.document(VALIDATORS_DEFAULT),
        "orders": figures["orders"],
        "finality_ms": figures["finality_ms"],
        "cores_per_validator": figures["cores_per_validator"],
        "rss_mb": figures["rss_mb"],
    }


def per_block(calls: Mapping[str, int], blocks: int) -> Document:
    """Return calls per block: the sum, and each method's, the most frequent first.

    Args:
        calls: By method.
        blocks: Blocks of the chain, times validators.
    """
    if blocks < 1:
        return {"all": None, "methods": {}}
    ordered = sorted(calls.items(), key=lambda item: (-item[1], item[0]))
    return {
        "all": round(sum(calls.values()) / blocks, 2),
        "methods": {method: round(count / blocks, 2) for method, count in ordered},
    }


def _cores(before: Moment, after: Moment, seconds: float) -> float | None:
    if before.chain_processor_s is None or after.chain_processor_s is None:
        return None
    return round((after.chain_processor_s - before.chain_processor_s) / seconds, 3)


async def _subscribe(markets: list[str], connection: Connection) -> None:
    for market in markets:
        await connection.call("omni_subscribe", {"channel": "trades", "market": market})


async def _take_quotes(devnet: Devnet) -> NoReturn:
    """Trade with the house, a unit at a time, until cancelled."""
    world = devnet.world
    sender = Sender(
        devnet.observer.connections,
        devnet.tracker,
        Change(),
        keys=world.keys,
        domain=Domain(world.genesis.settlement_chain_id, world.genesis.hash),
        nonce_window_ms=world.genesis.consensus.nonce_window_ms,
    )
    for side, price in cycle(TAKER_ORDERS):
        order = PlaceOrder(
            subaccount=0,
            market=TAKEN_MARKET,
            side=side,
            order_type="limit",
            size="1",
            price=price,
            tif="ioc",
            post_only=False,
            slippage_ppm=0,
            client_id="",
        )
        await sender.send(Request(TAKER, order, 1), measured=False)
        await trio.sleep(FILL_INTERVAL_S)
    raise AssertionError
