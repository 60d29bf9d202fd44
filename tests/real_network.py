"""A network of real processes: `omninode start` in homes of their own, hurt and watched.

Whatever ends the tests, also `kill -9`, ends the nodes: each is tied to the test process.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisBalance,
    check_genesis,
)
from omninode.dex.sealed.terms import GenesisSealed
from omninode.errors import UserError
from omninode.node.client import RpcClient
from omninode.node.config import NodeConfig
from omninode.node.home import Home
from omninode.node.home_setup import HomeIdentity, create_keys, write_config, write_genesis
from omninode.node.local_genesis import (
    ASSETS,
    FUNDS,
    MARKETS,
    SETTLEMENT_CHAIN_ID,
    genesis_validator,
)

START_DEADLINE_S: Final = 60
STOP_DEADLINE_S: Final = 20
SYNC_DEADLINE_S: Final = 30
POLL_S: Final = 0.03
BATCH_MAX: Final = 100
IDLE_BLOCK_INTERVAL_MS: Final = 500

PORTS: Final = range(20_000, 32_000)
"""Below what systems give to outgoing connections: a node that is down keeps its ports."""
PORTS_PER_NODE: Final = 3

PATIENT: Final = GenesisSealed(collect_ms=5_000, window_ms=10_000)
"""A batch waits for commands that a busy machine takes seconds to start."""

TETHER: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9); "
    "os.getppid() == int(sys.argv[1]) or sys.exit(1); os.execv(sys.argv[2], sys.argv[2:])"
)
"""Becomes a program that is killed with the thread that started it, which must be the main one."""

T = TypeVar("T")


def until(
    condition: Callable[[], T], within_s: float, *, why: Callable[[], object] | str = ""
) -> T:
    """Return the first true value of a condition; fail, saying why, if none comes in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s} s: {why() if callable(why) else why}")
        time.sleep(POLL_S)
    return value


class Done(NamedTuple):
    """What a command did."""

    code: int
    document: dict[str, Any]
    stderr: str


class RealNode:
    """One node: its home, and its process while it runs."""

    def __init__(self, home: Home, identity: HomeIdentity, first_port: int) -> None:
        self.home = home
        self.identity = identity
        self.name = home.path.name
        self.p2p_port, self.rpc_port, self.metrics_port = range(
            first_port, first_port + PORTS_PER_NODE
        )
        self.url = f"http://127.0.0.1:{self.rpc_port}"
        self.log_file = home.path / "log"
        self.is_suspended = False
        self._log_start = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The validator's address as the RPC shows it."""
        return checksum_address(self.identity.address)

    @property
    def multiaddress(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.p2p_port}/p2p/{self.identity.peer_id}"

    # --- Its process -----------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} was never started"
        return self._process

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the process, without waiting for it to answer."""
        assert not self.is_running
        tied = [sys.executable, "-I", "-S", "-c", TETHER, str(os.getpid())]
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*tied, *self._command("start")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                env=self.environment(),
            )

    def environment(self) -> dict[str, str]:
        """Return the environment of its processes: ours without settings for a node."""
        return {name: v for name, v in os.environ.items() if not name.startswith("OMNINODE_")}

    def wait_answering(self, within_s: float = START_DEADLINE_S) -> None:
        until(lambda: self._answers() or not self.is_running, within_s, why=self.log_tail)
        assert self.is_running, f"{self.name} ended:\n{self.log_tail()}"

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.launch()
        self.wait_answering()

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.process.wait(STOP_DEADLINE_S)

    def stop(self) -> int:
        """Ask it to stop; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait_ended()

    def wait_ended(self, within_s: float = STOP_DEADLINE_S) -> int:
        """Return the exit code of a process that ends by itself."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} runs on after {within_s} s:\n{self.log_tail()}"
            ) from None

    def suspend(self) -> None:
        self.signal(signal.SIGSTOP)
        self.is_suspended = True

    def resume(self) -> None:
        self.signal(signal.SIGCONT)
        self.is_suspended = False

    def waited_for_processor_s(self) -> float:
        """Return how long its main thread could have run and did not: the machine's other work."""
        return int(Path(f"/proc/{self.process.pid}/schedstat").read_text().split()[1]) / 1e9

    def resident_bytes(self) -> int:
        """Return how much memory it has resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def destroy(self) -> None:
        """End the process, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()

    # --- Its words -------------------------------------------------------------------------------

    def log(self) -> str:
        """Return what it wrote since its last start."""
        with self.log_file.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def log_tail(self) -> str:
        return "\n".join(line[:300] for line in self.log().splitlines()[-15:])

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the log's entries of one name since its last start."""
        found = []
        for line in self.log().splitlines():
            with suppress(ValueError):
                entry = json.loads(line)
                if isinstance(entry, dict) and entry.get("event") == name:
                    found.append(entry)
        return found

    def run(self, *arguments: str, within_s: float = START_DEADLINE_S) -> Done:
        """Run a command on its home."""
        done = subprocess.run(
            self._command(*arguments, "--json"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
            env=self.environment(),
        )
        assert "Traceback" not in done.stderr, done.stderr
        document = json.loads(done.stdout) if done.stdout else {}
        return Done(done.returncode, document, done.stderr)

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "omninode", "--home", str(self.home.path), *arguments]

    # --- Its answers -----------------------------------------------------------------------------

    def call(self, method: str, /, *, timeout_s: int = 10, **params: Any) -> Any:
        with RpcClient(self.url, timeout_s=timeout_s) as client:
            return client.call(method, {name.rstrip("_"): v for name, v in params.items()})

    def status(self) -> dict[str, Any]:
        status: dict[str, Any] = self.call("omni_status")
        return status

    def height(self) -> int:
        return int(self.status()["height"])

    def block(self, height: int) -> dict[str, Any]:
        block: dict[str, Any] = self.call("omni_getBlock", height=height)
        return block

    def call_many(self, method: str, many: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Call a method with each of these, in batches; returns the whole answer to each."""
        calls = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            for number, params in enumerate(many)
        ]
        answers: list[dict[str, Any]] = []
        for start in range(0, len(calls), BATCH_MAX):
            _, answer = self.post(json.dumps(calls[start : start + BATCH_MAX]).encode())
            answers += json.loads(answer)
        return sorted(answers, key=lambda answer: int(answer["id"]))

    def post(self, body: bytes, content_type: str = "application/json") -> tuple[int, bytes]:
        """POST a body to the RPC port."""
        return self._request("POST", "/", body, {"Content-Type": content_type})

    def health(self) -> tuple[int, dict[str, Any]]:
        status, body = self._request("GET", "/health")
        return status, json.loads(body)

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.rpc_port, timeout=20)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            self.call("omni_status", timeout_s=2)
        except UserError:
            return False
        return True


class RealNetwork:
    """Validators, and nodes that only follow; made by `real_network`.

    Attributes:
        accounts: All that genesis funds: the `busy_accounts`, with which load trades, and two
            `quiet_accounts`, whose balances only a test itself changes.
    """

    def __init__(self, root: Path, *, validators: int, accounts: int, ports: Iterator[int]) -> None:
        self._root = root
        self._ports = ports
        self.accounts = [SigningKey(bytes([number + 1]) * 32) for number in range(accounts)]
        self.busy_accounts = self.accounts[:-2]
        self.quiet_accounts = self.accounts[-2:]
        self.validators = [self._make_node(f"node{number}") for number in range(validators)]
        self.genesis = self._make_genesis()
        self.nodes = list(self.validators)
        for node in self.validators:
            others = [other for other in self.validators if other is not node]
            self._write_home(node, mode="validator", peers=others)

    @contextmanager
    def full_node(self, name: str, *, behind: Sequence[RealNode] = ()) -> Iterator[RealNode]:
        """Run a node that only follows, by default the validators, until the block ends."""
        node = self._make_node(name)
        self._write_home(node, mode="full", peers=behind or self.validators)
        self.nodes.append(node)
        try:
            node.start()
            yield node
        finally:
            self.nodes.remove(node)
            node.destroy()

    def _make_node(self, name: str) -> RealNode:
        home = Home(self._root / name)
        return RealNode(home, create_keys(home, password=None, light=True), next(self._ports))

    def _make_genesis(self) -> Genesis:
        return make_genesis([node.identity for node in self.validators], self.accounts)

    def _write_home(self, node: RealNode, *, mode: str, peers: Sequence[RealNode]) -> None:
        settings = self._settings(node, mode=mode, peers=peers)
        write_genesis(node.home, self.genesis.to_json().decode())
        write_config(node.home, NodeConfig.model_validate(settings))

    def _settings(
        self, node: RealNode, *, mode: str, peers: Sequence[RealNode]
    ) -> dict[str, dict[str, Any]]:
        addresses = [peer.multiaddress for peer in peers]
        plenty = 1_000_000
        return {
            "node": {"moniker": node.name, "mode": mode},
            "p2p": {"listen": [f"/ip4/127.0.0.1/tcp/{node.p2p_port}"], "peers": addresses},
            "consensus": {
                "delta_ms": 50,
                "min_block_interval_ms": 20,
                "idle_block_interval_ms": IDLE_BLOCK_INTERVAL_MS,
            },
            "rpc": {
                "port": node.rpc_port,
                "requests_per_second": plenty,
                "requests_burst": plenty,
            },
            "metrics": {"port": node.metrics_port},
        }

    @property
    def running(self) -> list[RealNode]:
        """The nodes that can answer."""
        return [node for node in self.nodes if node.is_running and not node.is_suspended]

    def start(self, nodes: Sequence[RealNode] | None = None) -> None:
        """Start nodes at once (all that do not run, by default) and wait until they answer."""
        chosen = [node for node in nodes or self.nodes if not node.is_running]
        for node in chosen:
            node.launch()
        for node in chosen:
            node.wait_answering()

    def heal(self) -> None:
        """Have every node running and at the network's height, whatever came before."""
        for node in self.nodes:
            if node.is_suspended:
                node.resume()
        self.start()
        self.wait_height(self.height(), self.nodes)

    def destroy(self) -> None:
        for node in self.nodes:
            node.destroy()

    # --- Waiting ---------------------------------------------------------------------------------

    def height(self) -> int:
        """Return the newest height that any node has stored."""
        return max(node.height() for node in self.running)

    def wait_blocks(
        self, count: int, nodes: Sequence[RealNode] | None = None, within_s: float = SYNC_DEADLINE_S
    ) -> None:
        """Wait until each of these nodes has stored so many blocks more than it had."""
        wanted = {node.name: node.height() + count for node in nodes or self.running}
        for node in nodes or self.running:
            self.wait_height(wanted[node.name], [node], within_s)

    def wait_height(
        self, height: int, nodes: Sequence[RealNode], within_s: float = SYNC_DEADLINE_S
    ) -> None:
        """Wait until these nodes have stored a height."""
        deadline = time.monotonic() + within_s
        for node in nodes:
            left = max(0.0, deadline - time.monotonic())
            until(lambda node=node: node.height() >= height, left, why=self.describe)

    def wait_in_sync(self, nodes: Sequence[RealNode], within_s: float = SYNC_DEADLINE_S) -> None:
        """Wait until these nodes have what the whole network has now, and new blocks after it."""
        self.wait_height(self.height() + 1, nodes, within_s)

    def wait_voting(self, node: RealNode, *, after: int, within_s: float = SYNC_DEADLINE_S) -> None:
        """Wait until another validator has seen a vote of this one beyond a height.

        Either in the view that it is in, or in a certificate, which has the votes that came first.
        """
        witness = next(v for v in self.validators if v is not node and v in self.running)
        height = after

        def is_seen() -> bool:
            nonlocal height
            while height < witness.height():
                height += 1
                certificate = witness.block(height)["certificate"]
                if certificate is not None and node.address in certificate["signers"]:
                    return True
            state = witness.call("omni_getConsensusState")
            return state["height"] >= after and any(
                row["votes"] for row in state["votes"] if row["address"] == node.address
            )

        until(is_seen, within_s, why=self.describe)

    def describe(self) -> str:
        """Say how all nodes fare, for a failed test."""
        lines = []
        for node in self.nodes:
            lines.append(f"--- {node.name}")
            if node in self.running:
                with suppress(UserError):
                    status, state = node.status(), node.call("omni_getConsensusState")
                    shown = ("height", "executed_height", "view", "armed", "waiting_for")
                    lines.append(f"stored {status['height']}, {[(k, state[k]) for k in shown]}")
            lines.append(node.log_tail())
        return "\n".join(lines)

    # --- Comparing -------------------------------------------------------------------------------

    def at_one_height(
        self, read: Callable[[RealNode], Iterable[dict[str, Any]]], nodes: Sequence[RealNode]
    ) -> list[list[dict[str, Any]]]:
        """Return each node's answers, all of one height; needs a pause between blocks."""

        def attempt() -> list[list[dict[str, Any]]] | None:
            answers = [list(read(node)) for node in nodes]
            heights = {answer["height"] for own in answers for answer in own}
            return answers if len(heights) == 1 else None

        return until(attempt, SYNC_DEADLINE_S, why=self.describe)

    def assert_one_chain(self, nodes: Sequence[RealNode] | None = None) -> int:
        """Check that nodes have the same block and state at the newest height all have; return it.

        A block names its parent, so equal blocks there mean equal blocks everywhere below.
        """
        chosen = nodes or self.running
        height = min(node.height() for node in chosen)
        found = {
            (block["hash"], block["app_hash"]) for block in (node.block(height) for node in chosen)
        }
        assert len(found) == 1, f"a fork at or below height {height}: {found}"
        return height


@contextmanager
def real_network(root: Path, *, validators: int = 4, accounts: int = 6) -> Iterator[RealNetwork]:
    """Make a network in a folder and start it; at the end none of its processes is left."""
    network = RealNetwork(
        root, validators=validators, accounts=accounts, ports=free_ports(PORTS_PER_NODE)
    )
    try:
        network.start()
        network.wait_height(1, network.nodes)
        yield network
    finally:
        network.destroy()


def free_ports(count: int) -> Iterator[int]:
    """Yield first ports of runs of free ports; each is given once."""
    start = random.SystemRandom().randrange(PORTS.start, PORTS.stop - 1_000)
    for first in range(start, PORTS.stop - count, count):
        with suppress(OSError):
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", port))
            yield first


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder's content into another one, which may exist."""
    shutil.copytree(source, target, dirs_exist_ok=True)


def make_genesis(identities: Sequence[HomeIdentity], accounts: Sequence[SigningKey]) -> Genesis:
    """Return a genesis of validators of equal power and accounts with equal funds."""
    genesis = Genesis(
        chain_id="test",
        settlement_chain_id=SETTLEMENT_CHAIN_ID,
        genesis_time_ms=time.time_ns() // 10**6,
        fees=FeeShares(
            treasury=checksum_address(bytes(19) + b"\1"),
            development=checksum_address(bytes(19) + b"\2"),
        ),
        validators=tuple(
            genesis_validator(identity, moniker=f"node{number}", power=100)
            for number, identity in enumerate(identities)
        ),
        assets=ASSETS,
        markets=MARKETS,
        balances=tuple(
            GenesisBalance(address=checksum_address(key.address), asset=asset, amount=amount)
            for key in accounts
            for asset, amount in FUNDS
        ),
        sealed=PATIENT,
    )
    check_genesis(genesis)
    return genesis
