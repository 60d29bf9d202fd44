"""A settlement chain in a process of its own, and gates to it that a test shuts and makes lie."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Literal

from omninode.crypto import checksum_address, keccak256
from omninode.errors import UserError
from omninode.node.client import RpcClient
from real_network import START_DEADLINE_S, STOP_DEADLINE_S, TETHER, until

Result = Any
Forward = Callable[[str, list[Any]], Result]
Answering = Callable[[str, list[Any], Forward], Result]
"""Answers a call, with or without asking the chain."""

BLOCKS_DEADLINE_S: Final = 30
SEND: Final = "eth_sendRawTransaction"
BLOCK_INTERVAL_MS: Final = 250
RELEASE_DEADLINE_S: Final = 600
"""A call is held no longer: whatever a test forgets, its threads end."""


class ChainError(Exception):
    """The chain answered with an error, which a gate passes on."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error = error


class ChainProcess:
    """The dev chain's program in a folder, tied to this process as nodes are."""

    def __init__(self, folder: Path, port: int, *, fund: bytes) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = folder
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "alloc.json").write_text(json.dumps({checksum_address(fund): str(10**25)}))

    def launch(self) -> None:
        """Start the process, without waiting for it to answer."""
        program = [sys.executable, "-m", "omninode.contracts.devchain"]
        place = ["--home", str(self._folder / "data"), "--port", str(self.port)]
        terms = ["--alloc", str(self._folder / "alloc.json")]
        interval = ["--block-interval-ms", str(BLOCK_INTERVAL_MS)]
        tied = [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid())]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*tied, *program, *place, *terms, *interval],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        until(self._answers, START_DEADLINE_S, why=self.log_tail)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def destroy(self) -> None:
        """End the process, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(STOP_DEADLINE_S)

    def log_tail(self) -> str:
        return self._log.read_text(errors="replace")[-3_000:]

    def call(self, method: str, *params: Any) -> Any:
        """Ask the chain itself, past all gates."""
        with RpcClient(self.url) as client:
            return client.call(method, params)

    def height(self) -> int:
        return int(self.call("eth_blockNumber"), 16)

    def wait_height(self, height: int) -> None:
        """Wait for a block."""
        until(lambda: self.height() >= height, BLOCKS_DEADLINE_S, why=self.log_tail)

    def reorganise_from(self, number: int, *, keep: bool) -> None:
        """Replace a block and all above it; keep their transactions for others, or forget them."""
        before = self.hash_at(number)
        while self.hash_at(number) == before:  # a new block may make the depth one too small
            self.call("dev_reorganise", hex(self.height() - number + 1), keep)

    def hash_at(self, number: int) -> str:
        return str(self.call("eth_getBlockByNumber", hex(number), False)["hash"])

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log_tail()
        try:
            self.call("eth_chainId")
        except UserError:
            return False
        return True


class Gate:
    """One way to the chain: a real HTTP server between a node and the chain.

    Attributes:
        calls: How often which method came.
        sent: Raw transactions that came, by their hash, with how often each came.
        raws: Their bytes.
        held: Hashes of those that are held back now.
        passed: Hashes of those that were handed to the chain, in that order.
        answering: Who answers instead of the chain, if anybody.
    """

    def __init__(self, port: int, chain: ChainProcess) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.calls: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.raws: dict[str, bytes] = {}
        self.held: list[str] = []
        self.passed: list[str] = []
        self.answering: Answering | None = None
        self._chain = chain
        self._changed = threading.Condition()
        self._way: Literal["open", "hanging", "refusing"] = "open"
        self._holds_sends = False
        self._holds_receipts = False
        self._epoch = 0
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None
        self._listen()

    # --- What a test does to it ------------------------------------------------------------------

    def open(self) -> None:
        """Let everything through that comes from now on; what hangs or is held is dropped."""
        self._become("open")
        self.answering = None
        if self._server is None:
            self._listen()

    def refuse(self) -> None:
        """Be gone: connections are refused, those that exist are cut."""
        self._become("refusing")
        self._deafen()

    def hang(self) -> None:
        """Take calls and never answer."""
        self._become("hanging")

    def hold_sends(self) -> None:
        """Hold transactions back from the chain."""
        with self._changed:
            self._holds_sends = True

    def hold_receipts(self) -> None:
        """Hand transactions to the chain, and hold back every word of what became of them."""
        with self._changed:
            self._holds_receipts = True

    def let_pass(self) -> None:
        """Let go on what is held."""
        with self._changed:
            self._holds_sends = self._holds_receipts = False
            self._changed.notify_all()

    def forget(self) -> None:
        """Count from zero again."""
        with self._changed:
            for counted in (self.calls, self.sent, self.raws, self.passed):
                counted.clear()

    def close(self) -> None:
        self._become("refusing")
        self._deafen()

    def _become(self, way: Literal["open", "hanging", "refusing"]) -> None:
        with self._changed:
            self._way = way
            self._holds_sends = self._holds_receipts = False
            self._epoch += 1
            self._changed.notify_all()

    # --- Serving ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._server = _Server(self, self.port)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def _deafen(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
        with self._changed:
            connections = tuple(self._connections)
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def connected(self, connection: socket.socket, *, is_there: bool) -> None:
        """Count a connection in or out; called by its thread."""
        with self._changed:
            (self._connections.add if is_there else self._connections.discard)(connection)

    def answer(self, request: Any, forward: Forward) -> Any:
        """Answer a request or a batch; `None` cuts the connection. Called by its thread."""
        if isinstance(request, list):
            answers = [self._answer_one(one, forward) for one in request]
            return None if None in answers else answers
        return self._answer_one(request, forward)

    def _answer_one(self, request: dict[str, Any], forward: Forward) -> dict[str, Any] | None:
        method, params = request["method"], request.get("params", [])
        with self._changed:
            epoch = self._epoch
            self.calls[method] += 1
        if method == SEND and not self._may_send(params[0], epoch):
            return None
        if not self._may_pass(epoch, lambda: False):
            return None
        answering = self.answering
        try:
            value = answering(method, params, forward) if answering else forward(method, params)
            outcome = {"result": value}
        except ChainError as refused:
            outcome = {"error": refused.error}
        except (OSError, http.client.HTTPException):
            return None
        told = method in (SEND, "eth_getTransactionReceipt", "eth_getTransactionByHash")
        if not self._may_pass(epoch, lambda: told and self._holds_receipts):
            return None
        return {"jsonrpc": "2.0", "id": request["id"], **outcome}

    def _may_send(self, raw: str, epoch: int) -> bool:
        """Hold a transaction back while sends are held; tell whether it may go to the chain."""
        data = bytes.fromhex(raw[2:])
        name = "0x" + keccak256(data).hex()
        with self._changed:
            self.raws[name] = data
            self.sent[name] += 1
            self.held.append(name)
        may_send = self._may_pass(epoch, lambda: self._holds_sends)
        with self._changed:
            self.held.remove(name)
            if may_send:
                self.passed.append(name)
        return may_send

    def _may_pass(self, epoch: int, is_held: Callable[[], bool]) -> bool:
        """Wait while a call is held; tell whether it then goes on."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._epoch != epoch or not (self._way == "hanging" or is_held()),
                RELEASE_DEADLINE_S,
            )
            return self._epoch == epoch and self._way == "open"

    def forwarding(self) -> tuple[Forward, Callable[[], None]]:
        """Return a way to ask the chain for one thread, and how to close it."""
        connection = http.client.HTTPConnection("127.0.0.1", self._chain.port, timeout=30)

        def ask(method: str, params: list[Any]) -> Result:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            try:
                connection.request("POST", "/", body, {"Content-Type": "application/json"})
                answer = json.loads(connection.getresponse().read())
            except (OSError, http.client.HTTPException):
                connection.close()
                raise
            if "error" in answer:
                raise ChainError(answer["error"])
            return answer["result"]

        return ask, connection.close


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, gate: Gate, port: int) -> None:
        self.gate = gate
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that were killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        gate = self.server.gate
        gate.connected(self.connection, is_there=True)
        self._forward, close = gate.forwarding()
        try:
            with suppress(OSError):
                super().handle()
        finally:
            close()
            gate.connected(self.connection, is_there=False)

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = self.server.gate.answer(request, self._forward)
        if answer is None:
            self.close_connection = True
            return
        body = json.dumps(answer).encode()
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self.wfile.write(head.encode() + b"\r\n\r\n" + body)

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


# --- Lies ----------------------------------------------------------------------------------------


def until_block(number: int) -> Answering:
    """Hide all blocks above one, as an endpoint does that lags behind."""

    def answer(method: str, params: list[Any], forward: Forward) -> Result:
        if method == "eth_blockNumber":
            return hex(min(number, int(forward(method, params), 16)))
        if method == "eth_getBlockByNumber":
            wanted = params[0]
            if not wanted.startswith("0x") or int(wanted, 16) > number:
                head = int(forward("eth_blockNumber", []), 16)
                return forward(method, [hex(min(number, head)), *params[1:]])
        return forward(method, params)

    return answer


def without_log(topics: Sequence[str]) -> Answering:
    """Hide logs that begin with these topics."""
    hidden = list(topics)

    def answer(method: str, params: list[Any], forward: Forward) -> Result:
        result = forward(method, params)
        if method == "eth_getLogs":
            return [log for log in result if log["topics"][: len(hidden)] != hidden]
        return result

    return answer


def with_log(number: int, contract: bytes, topics: Sequence[str], data: bytes) -> Answering:
    """Invent a log at the end of a block."""

    def answer(method: str, params: list[Any], forward: Forward) -> Result:
        result = forward(method, params)
        if method != "eth_getLogs":
            return result
        block = forward("eth_getBlockByNumber", [hex(number), False])
        wanted = params[0]
        if "blockHash" in wanted:
            is_asked = block is not None and wanted["blockHash"] == block["hash"]
        else:
            first, last = int(wanted["fromBlock"], 16), int(wanted["toBlock"], 16)
            is_asked = block is not None and first <= number <= last
        if not is_asked:
            return result
        place = 1 + max(
            (int(x["logIndex"], 16) for x in result if int(x["blockNumber"], 16) == number),
            default=-1,
        )
        invented = {
            "address": checksum_address(contract),
            "topics": list(topics),
            "data": "0x" + data.hex(),
            "blockNumber": hex(number),
            "blockHash": block["hash"],
            "transactionHash": "0x" + keccak256(data).hex(),
            "transactionIndex": hex(len(block["transactions"])),
            "logIndex": hex(place),
            "removed": False,
        }
        return sorted(
            [*result, invented],
            key=lambda log: (int(log["blockNumber"], 16), int(log["logIndex"], 16)),
        )

    return answer


def other_hashes(above: int) -> Answering:
    """Give all blocks above one other hashes: another chain that looks as good."""
    real: dict[str, str] = {}

    def disguise(block_hash: str) -> str:
        strange = "0x" + keccak256(bytes.fromhex(block_hash[2:])).hex()
        real[strange] = block_hash
        return strange

    def answer(method: str, params: list[Any], forward: Forward) -> Result:
        asked = json.loads(json.dumps(params), object_hook=lambda found: _unmask(found, real))
        asked = [real.get(one, one) if isinstance(one, str) else one for one in asked]
        result = forward(method, asked)
        if method in ("eth_getBlockByNumber", "eth_getBlockByHash") and result is not None:
            number = int(result["number"], 16)
            if number > above:
                result["hash"] = disguise(result["hash"])
            if number > above + 1:
                result["parentHash"] = disguise(result["parentHash"])
        if method == "eth_getLogs":
            for log in result:
                if int(log["blockNumber"], 16) > above:
                    log["blockHash"] = disguise(log["blockHash"])
        return result

    return answer


def _unmask(found: dict[str, Any], real: dict[str, str]) -> dict[str, Any]:
    return {k: real.get(v, v) if isinstance(v, str) else v for k, v in found.items()}
