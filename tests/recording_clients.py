"""Clients beside the nodes of a network who write down all they did and were told."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from history_judge import (
    Balances,
    Chain,
    Histories,
    Read,
    Sent,
    Supply,
    judge_order,
    judge_reads,
    judge_sent,
    judge_supplies,
)
from omninode.crypto import checksum_address
from omninode.dex.actions import Action, Transfer
from omninode.dex.decimals import format_units
from omninode.errors import UserError
from omninode.node.client import RpcClient
from omninode.node.local_genesis import FUNDS
from real_namespaces import NamespaceNetwork, NamespaceNode, inside
from real_network import until
from real_trading import NONCE_WINDOW_S, SETTLED, Trader, hex_of, limit_order

PAUSE_S: Final = 0.35
RETRY_PAUSE_S: Final = 0.2
CALL_TIMEOUT_S: Final = 4
SYNC_TIMEOUT_MS: Final = 3_000
BLOCKS_MAX: Final = 50
SIZE: Final = "10"
SYNC_S: Final = 60
SETTLE_S: Final = NONCE_WINDOW_S + 60


class Clients:
    """One client a node, each with an account of its own, while the `with` block runs."""

    def __init__(self, network: NamespaceNetwork, court: Court, *, seed: str) -> None:
        self.court = court
        self.refused: Counter[str] = Counter()
        self._network = network
        self._histories = court.histories
        self._traders = [Trader(network, key) for key in network.accounts]
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._live, args=(node, random.Random(f"{seed} {node.name}")))
            for node in network.hosts
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def wait_acknowledged(self, more: int, within_s: float) -> None:
        """Wait until so many more transactions were taken."""
        wanted = len(self._histories.acknowledged()) + more
        until(
            lambda: len(self._histories.acknowledged()) >= wanted,
            within_s,
            why=lambda: f"{self.refused}\n{self._network.describe()}",
        )

    def wait_final(self, more: int, within_s: float) -> None:
        """Wait until so many more answers said that a transaction is final."""

        def count() -> int:
            return sum(one.final is not None for one in list(self._histories.sent))

        wanted = count() + more
        until(
            lambda: count() >= wanted,
            within_s,
            why=lambda: f"{self.refused}\n{self._network.describe()}",
        )

    def _live(self, node: NamespaceNode, rng: random.Random) -> None:
        trader = self._traders[node.host]
        with inside(node.namespace):
            client = RpcClient(node.url, timeout_s=CALL_TIMEOUT_S)
            try:
                while not self._ending.is_set():
                    pause_s = PAUSE_S if self._act(client, node, trader, rng) else RETRY_PAUSE_S
                    self._ending.wait(pause_s * rng.uniform(0.5, 1.5))
            finally:
                client.close()

    def _act(
        self, client: RpcClient, node: NamespaceNode, trader: Trader, rng: random.Random
    ) -> bool:
        chance = rng.random()
        try:
            if chance < 0.3:
                self._read(client, node, rng)
            elif chance < 0.35:
                self._read_supply(client, node)
            else:
                action = self._transfer(rng) if chance < 0.45 else self._order(rng)
                self._send(client, node, trader, action, is_awaited=rng.random() < 0.4)
        except UserError as error:
            self.refused[error.reason] += 1
            return False
        return True

    def _order(self, rng: random.Random) -> Action:
        price = format_units(10_000 + rng.randint(-50, 50), 4)
        tif = "ioc" if rng.random() < 0.3 else "gtc"
        return limit_order(rng.choice(("buy", "sell")), price, SIZE, tif=tif)

    def _transfer(self, rng: random.Random) -> Action:
        to = rng.choice(self._traders)
        return Transfer(0, to.key.address, rng.choice((0, 1)), "USDC", str(rng.randint(1, 9)))

    def _send(
        self,
        client: RpcClient,
        node: NamespaceNode,
        trader: Trader,
        action: Action,
        *,
        is_awaited: bool,
    ) -> None:
        transaction = trader.sign(action)
        sent = Sent(
            "0x" + transaction.hash.hex(),
            trader.address,
            transaction.nonce,
            node.name,
            time.monotonic(),
        )
        self._histories.sent.append(sent)
        text = hex_of(transaction)
        if not is_awaited:
            client.call("omni_sendTransaction", {"tx": text})
            sent.acknowledged_s = time.monotonic()
            return
        asked = {"tx": text, "timeout_ms": SYNC_TIMEOUT_MS}
        try:
            told = client.call("omni_sendTransactionSync", asked)
        except UserError as error:
            if error.reason == "timeout":  # taken, and not final yet
                sent.acknowledged_s = time.monotonic()
            raise
        sent.acknowledged_s = sent.known_final_s = time.monotonic()
        sent.final = (told["height"], told["index"])

    def _read(self, client: RpcClient, node: NamespaceNode, rng: random.Random) -> None:
        account = rng.choice(self._traders).address
        life, started_s = node.lives, time.monotonic()
        told = client.call("omni_getAccount", {"address": account})
        totals: Counter[str] = Counter()
        for part in told["subaccounts"]:
            for balance in part["balances"]:
                totals[balance["asset"]] += Decimal(balance["total"])  # type: ignore[assignment]
        read = Read(node.name, life, account, told["height"], totals, started_s, time.monotonic())
        if life == node.lives:
            self._histories.reads.append(read)

    def _read_supply(self, client: RpcClient, node: NamespaceNode) -> None:
        told = client.call("omni_getSupply")
        totals = {asset["asset"]: Decimal(asset["exchange"]) for asset in told["assets"]}
        self._histories.supplies.append(Supply(node.name, told["height"], totals))


class Verdict(NamedTuple):
    """How much was judged, and found right."""

    acknowledged: int
    expired: int
    compared: int
    balances: int
    sums: int
    blocks: int


class Court:
    """Collects blocks and fates from the nodes and has the judge decide."""

    def __init__(self, network: NamespaceNetwork) -> None:
        self.histories = Histories()
        self._network = network
        self._funds: Balances = {
            (checksum_address(key.address), asset): Decimal(amount)
            for key in network.accounts
            for asset, amount in FUNDS
        }
        self.chain = Chain(self._funds)

    def look(self) -> None:
        """Judge what can be judged while clients go on (J2 to J7)."""
        network, histories = self._network, self.histories
        sent, reads = list(histories.sent), list(histories.reads)
        supplies = list(histories.supplies)
        network.wait_in_sync(network.nodes, SYNC_S)
        height = network.assert_one_chain()
        self._read_blocks(network.hosts[height % len(network.hosts)], height)
        judge_order(self.chain, sent)
        judge_reads(self.chain, [read for read in reads if read.height <= height], self._funds)
        judge_supplies(supplies, self._funds)

    def sit(self) -> Verdict:
        """Wait until what was acknowledged is settled, judge all, and say how much it was."""
        histories = self.histories
        acknowledged = histories.acknowledged()
        self._wait_settled(acknowledged)
        self.look()
        hashes = [one.hash for one in acknowledged]
        judge_sent(self.chain, histories.sent, self._fates(hashes))
        return Verdict(
            acknowledged=len(acknowledged),
            expired=sum(name not in self.chain.places for name in hashes),
            compared=judge_order(self.chain, histories.sent),
            balances=len(histories.reads),
            sums=len(histories.supplies),
            blocks=self.chain.height,
        )

    def _wait_settled(self, acknowledged: list[Sent]) -> None:
        """Wait until each node says of all that it took that it is final or expired."""
        deadline = time.monotonic() + SETTLE_S
        for node in self._network.nodes:
            left = [one.hash for one in acknowledged if one.node == node.name]
            while left and time.monotonic() < deadline:
                told = node.call_many("omni_getTransaction", [{"hash": name} for name in left])
                states = [answer.get("result", {}).get("state") for answer in told]
                left = [n for n, state in zip(left, states, strict=True) if state not in SETTLED]
                time.sleep(0.1 if left else 0)

    def _fates(self, hashes: list[str]) -> dict[str, dict[str, Any]]:
        """Return what each node says of transactions."""
        fates: dict[str, dict[str, Any]] = {name: {} for name in hashes}
        for node in self._network.nodes:
            answers = node.call_many("omni_getTransaction", [{"hash": name} for name in hashes])
            for name, answer in zip(hashes, answers, strict=True):
                known = answer.get("result")
                fates[name][node.name] = known or {"state": answer["error"]["data"]["reason"]}
        return fates

    def _read_blocks(self, node: NamespaceNode, height: int) -> None:
        """Take the blocks up to a height, as one node shows them."""
        while self.chain.height < height:
            first = self.chain.height + 1
            last = min(height, first + BLOCKS_MAX - 1)
            told = node.call("omni_getBlocks", from_=first, to=last)
            for block in told["blocks"]:
                self.chain.add(block)
