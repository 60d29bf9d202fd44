"""What a node answers to commands that move funds, before a real settlement chain.

The chain and its contracts are those of `money_world`, in a thread; calls of them are passed on
over HTTP. The exchange's side is what a test says.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trio

from money_world import MoneyWorld, money_world
from omninode.crypto import SigningKey
from omninode.dex.decimals import format_units
from omninode.errors import EndpointError
from omninode.node.client import CHAIN_PREFIXES, RpcClient
from omninode.node.funds.calls import DEPOSIT_COUNT, STAKE_OF, encode_call

WAIT_S = 60
FREE = "2.5"
"""USDC that everybody has free."""


class Refusal(Exception):
    """What the node answers instead of a result."""


class MoneyNode:
    """The node.

    Attributes:
        url: Its RPC address.
        chain_url: The settlement chain's.
        keys: Of people who have coins and tokens there: alice.
        contract: Of the exchange.
        token: USDC.
        proofs: Of the withdrawals there are.
        calls: Methods that were called.
        silent: So many calls of the chain come too early: it does not answer yet.
        broken_after: After this method nothing is answered any more.
        shortage: Base units of USDC that the exchange has too many.
        takes_stake: Whether the exchange takes what the contract has as stake.
        genesis: The network's.
    """

    def __init__(self, world: MoneyWorld, proofs: list[dict[str, Any]]) -> None:
        self.chain_url = world.url
        self.keys: dict[str, SigningKey] = world.keys
        self.contract, self.token = world.plan.contract, world.plan.tokens["USDC"]
        self.genesis = world.genesis
        self.proofs = proofs
        self.calls: list[str] = []
        self._world = world
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.reset()

    def reset(self) -> None:
        """Forget what a test asked for."""
        self.calls.clear()
        self.silent = 0
        self.broken_after = ""
        self.shortage = 0
        self.takes_stake = True

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def _answer(self, method: str, params: Any) -> Any:
        self.calls.append(method)
        is_of_chain = method.startswith(CHAIN_PREFIXES)
        if self.silent and (is_of_chain or method == "omni_getWithdrawalProof"):
            self.silent -= 1
            raise Refusal("settlement_unreachable")
        if is_of_chain:
            return self._ask(method, params)
        if method == "omni_getGenesis":
            return self._world.genesis_answer
        if method == "omni_getDeposits":
            data = "0x" + encode_call(DEPOSIT_COUNT, ()).hex()
            call = {"to": "0x" + self.contract.hex(), "data": data}
            return {"credited_count": int(self._ask("eth_call", [call, "latest"]), 16)}
        if method == "omni_getAccount":
            balances = [{"asset": "USDC", "free": FREE, "held": "0", "total": FREE}]
            parts = [{"subaccount": 0, "balances": balances}]
            staked = self._staked(params["address"])
            if staked and self.takes_stake:
                total = format_units(staked, 18)
                balances = [{"asset": "XOM", "free": total, "held": "0", "total": total}]
                parts.append({"subaccount": 1_000, "balances": balances})
            return {"subaccounts": parts}
        if method == "omni_getParticipation":
            raise Refusal("method_not_found")
        if method == "omni_getWithdrawalProof":
            if params["id"] >= len(self.proofs):
                raise Refusal("unknown_withdrawal")
            return self.proofs[params["id"]]
        assert method == "omni_getSupply", method
        return trio.run(self._world.supply(**self._exchange()))

    def _staked(self, owner: str) -> int:
        data = "0x" + encode_call(STAKE_OF, (owner.partition("/")[0],)).hex()
        call = {"to": "0x" + self.contract.hex(), "data": data}
        return int(self._ask("eth_call", [call, "latest"]), 16)

    def _exchange(self) -> dict[str, dict[str, int]]:
        if not self.shortage:
            return {}
        units = 10**20
        return {"USDC": {"exchange": units, "genesis": units}}

    def _ask(self, method: str, params: Any) -> Any:
        with RpcClient(self.chain_url) as chain:
            return chain.call(method, params)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if node.broken_after and node.broken_after in node.calls:
                    self.close_connection = True
                    return
                body: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
                try:
                    body["result"] = node._answer(request["method"], request["params"])
                except Refusal as refusal:
                    error = {"code": -32000, "message": "refused", "data": {"reason": str(refusal)}}
                    body["error"] = error
                except EndpointError as error:
                    message = str(error)
                    body["error"] = {"code": error.code, "message": message, "data": error.data}
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@contextmanager
def money_node(folder: Path) -> Iterator[MoneyNode]:
    """Run the chain with two withdrawals to claim, and the node."""
    ready: queue.Queue[tuple[MoneyWorld, list[dict[str, Any]], Any, trio.Event]] = queue.Queue()

    async def run() -> None:
        async with money_world(folder) as world:
            await world.deploy()
            proofs = await world.checkpoint_withdrawals((5, 7))
            stop = trio.Event()
            ready.put((world, proofs, trio.lowlevel.current_trio_token(), stop))
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(run,))
    thread.start()
    world, proofs, token, stop = ready.get(timeout=WAIT_S)
    node = MoneyNode(world, proofs)
    try:
        with node.serving():
            yield node
    finally:
        token.run_sync_soon(stop.set)
        thread.join()
