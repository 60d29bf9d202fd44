"""Traders on a real network: signed orders, load in the background, and what became of it."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import Action, PlaceOrder
from omninode.dex.decimals import format_units
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import Transaction, sign_wallet
from omninode.errors import UserError
from omninode.node.client import RpcClient
from real_network import RealNetwork, RealNode, until

MARKET: Final = "XOM-USDC"
RETRY_PAUSE_S: Final = 0.1
NONCE_WINDOW_S: Final = 30
SETTLED: Final = ("final", "expired")


def limit_order(side: str, price: str, size: str, tif: str = "gtc", **changes: Any) -> PlaceOrder:
    """Return a limit order; any field may be replaced, also by what no node takes."""
    fields: dict[str, Any] = {
        "subaccount": 0,
        "market": MARKET,
        "side": side,
        "order_type": "limit",
        "size": size,
        "price": price,
        "tif": tif,
        "post_only": False,
        "slippage_ppm": 0,
        "client_id": "",
    }
    return PlaceOrder(**fields | changes)


class Trader:
    """Signs for one account; safe to share between threads."""

    def __init__(self, network: RealNetwork, key: SigningKey) -> None:
        genesis = network.genesis
        self.key = key
        self.address = checksum_address(key.address)
        self.domain = Domain(genesis.settlement_chain_id, genesis.hash)
        self._last_nonce = 0
        self._lock = threading.Lock()

    def nonce(self) -> int:
        with self._lock:
            self._last_nonce = max(self._last_nonce + 1, time.time_ns() // 10**6)
            return self._last_nonce

    def sign(self, action: Action, nonce: int | None = None) -> Transaction:
        return sign_wallet(
            self.key, action, nonce=self.nonce() if nonce is None else nonce, domain=self.domain
        )

    def send(self, node: RealNode, action: Action) -> dict[str, Any]:
        """Send and return the final result."""
        result: dict[str, Any] = node.call(
            "omni_sendTransactionSync", tx=hex_of(self.sign(action)), timeout_s=15
        )
        return result

    def free(self, node: RealNode, asset: str) -> str:
        for subaccount in node.call("omni_getAccount", address=self.address)["subaccounts"]:
            for balance in subaccount["balances"]:
                if balance["asset"] == asset:
                    return str(balance["free"])
        return "0"


def hex_of(transaction: Transaction) -> str:
    return "0x" + transaction.raw.hex()


class Load:
    """Random orders to each of some nodes from a thread each, while the `with` block runs.

    Attributes:
        acknowledged: The nodes that acknowledged it, by transaction hash.
        refused: How often which reason came; `node_unreachable` while a node is down.
    """

    def __init__(
        self, network: RealNetwork, nodes: Sequence[RealNode], *, rate: float, seed: int
    ) -> None:
        self.acknowledged: dict[str, RealNode] = {}
        self.refused: Counter[str] = Counter()
        self._network = network
        self._traders = [Trader(network, key) for key in network.busy_accounts]
        self._pause_s = len(nodes) / rate
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(node, random.Random(f"{seed} {node.name}")))
            for node in nodes
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

    def wait_acknowledged(self, more: int, within_s: float = 30) -> None:
        """Wait until so many more transactions were acknowledged."""
        wanted = len(self.acknowledged) + more
        until(
            lambda: len(self.acknowledged) >= wanted,
            within_s,
            why=lambda: f"{self.refused}\n{self._network.describe()}",
        )

    def assert_all_final(self, nodes: Sequence[RealNode]) -> None:
        """Check that nothing acknowledged is lost (PROTOCOL.md P8): final, or provably expired."""
        left = set(self.acknowledged)
        assert left, self.refused
        deadline = time.monotonic() + NONCE_WINDOW_S + 15
        while left and time.monotonic() < deadline:
            for node in nodes:
                left -= {i for i, state in _states(node, sorted(left)) if state in SETTLED}
        assert not left, f"{len(left)} of {len(self.acknowledged)} lost: {self._fates(left, nodes)}"

    def _fates(self, hashes: set[str], nodes: Sequence[RealNode]) -> str:
        some = sorted(hashes)[:5]
        lines = [f"{i} was acknowledged by {self.acknowledged[i].name}" for i in some]
        lines += [f"{node.name} says {dict(_states(node, some))}" for node in nodes]
        return "\n".join([*lines, self._network.describe()])

    def _run(self, node: RealNode, rng: random.Random) -> None:
        client = RpcClient(node.url, timeout_s=2)
        try:
            while not self._ending.is_set():
                started = time.monotonic()
                pause_s = self._pause_s if self._send_one(client, node, rng) else RETRY_PAUSE_S
                self._ending.wait(max(0.0, started + pause_s - time.monotonic()))
        finally:
            client.close()

    def _send_one(self, client: RpcClient, node: RealNode, rng: random.Random) -> bool:
        price = format_units(10_000 + rng.randint(-200, 200), 4)
        order = limit_order(
            rng.choice(("buy", "sell")), price, "10", tif="ioc" if rng.random() < 0.8 else "gtc"
        )
        transaction = rng.choice(self._traders).sign(order)
        try:
            answer = client.call("omni_sendTransaction", {"tx": hex_of(transaction)})
        except UserError as error:
            self.refused[error.reason] += 1
            return False
        self.acknowledged[answer["hash"]] = node
        return True


def _states(node: RealNode, hashes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Say what a node says of transactions: the state, or why it says nothing."""
    answers = node.call_many("omni_getTransaction", [{"hash": i} for i in hashes])
    for i, answer in zip(hashes, answers, strict=True):
        known = answer.get("result")
        yield i, known["state"] if known else answer["error"]["data"]["reason"]
