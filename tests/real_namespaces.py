"""A network of real processes with a network namespace each, on lines as bad as a test wants them.

A node listens on its host's address and serves its RPC on its host's loopback. Whoever asks it
enters its host for that long, as a client beside it would: what the lines lose, clients do not.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Self

from packet_switch import address_of, enter_namespace
from real_network import Done, RealNetwork, RealNode
from small_disk import small_disk

SWITCH: Final = Path(__file__).parent / "packet_switch.py"
FAKETIME: Final = "vendor/libfaketime/src/libfaketime.so.1"

FIRST_PORT: Final = 36_650
SWITCH_DEADLINE_S: Final = 10
CONNECT_DEADLINE_S: Final = 20
HEAL_DEADLINE_S: Final = 90

DELAY_MS: Final = 100
JITTER_MS: Final = 50
LOSS_PPM: Final = 50_000
DELTA_MS: Final = 300

Direction = tuple[int, int]


def why_not() -> str:
    """Say why this machine permits no namespaces; nothing if it does."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "no /dev/net/tun"
    try:
        with PacketSwitch(hosts=1, seed="probe"):
            return ""
    except OSError as error:
        return f"network namespaces are not permitted: {error}"


def faketime_library() -> Path:
    """Return the library that tells a process another time; its package is not loaded for it."""
    found = importlib.util.find_spec("libfaketime")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / FAKETIME


class PacketSwitch:
    """The process that makes the hosts and carries their packets."""

    def __init__(self, *, hosts: int, seed: str) -> None:
        self._cut: set[Direction] = set()
        self._line = {"delay_ms": 0, "jitter_ms": 0, "loss_ppm": 0}
        with tempfile.TemporaryFile() as said:
            self._process = subprocess.Popen(
                [sys.executable, str(SWITCH), str(hosts), seed],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
            try:
                made = self._read()
            except OSError:
                self._process.wait(SWITCH_DEADLINE_S)
                said.seek(0)
                raise OSError(said.read().decode().strip().rpartition("\n")[2]) from None
        folder = Path(f"/proc/{self._process.pid}/fd")
        self.namespaces = [os.open(folder / str(n), os.O_RDONLY) for n in made["namespaces"]]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_line(self, *, delay_ms: int, jitter_ms: int, loss_ppm: int) -> None:
        """Make all lines so slow and so lossy."""
        self._line = {"delay_ms": delay_ms, "jitter_ms": jitter_ms, "loss_ppm": loss_ppm}
        self._tell()

    def cut(self, directions: Iterable[Direction]) -> None:
        """Lose all packets from one host to another, for each (from, to)."""
        self._cut |= set(directions)
        self._tell()

    def mend(self) -> None:
        """Cut nothing."""
        self._cut.clear()
        self._tell()

    def counts(self) -> Mapping[str, int]:
        """Return what became of packets, and how late the latest was since the last question."""
        return self._ask({})

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(SWITCH_DEADLINE_S)
        self._process.stdout.close()
        for namespace in self.namespaces:
            os.close(namespace)

    def _tell(self) -> None:
        self._ask({"line": {**self._line, "cut": sorted(self._cut)}})

    def _ask(self, command: dict[str, Any]) -> Mapping[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the packet switch has ended")
        told: dict[str, Any] = json.loads(line)
        return told


@contextmanager
def inside(namespace: int) -> Iterator[None]:
    """Have this thread, and what it starts, in a namespace; sockets made there stay there."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        enter_namespace(namespace)
        try:
            yield
        finally:
            enter_namespace(own)
    finally:
        os.close(own)


class NamespaceNode(RealNode):
    """A node on a host of its own; its wall clock can be moved if it was started for that."""

    namespace = -1
    host = -1
    lives = 0
    clock_file: Path | None = None

    @property
    def multiaddress(self) -> str:
        return f"/ip4/{address_of(self.host)}/tcp/{self.p2p_port}/p2p/{self.identity.peer_id}"

    def launch(self) -> None:
        self.lives += 1
        with inside(self.namespace):
            super().launch()

    def run(self, *arguments: str, within_s: float = 60) -> Done:
        with inside(self.namespace):
            return super().run(*arguments, within_s=within_s)

    def call(self, method: str, /, *, timeout_s: int = 10, **params: Any) -> Any:
        with inside(self.namespace):
            return super().call(method, timeout_s=timeout_s, **params)

    def _request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, bytes]:
        with inside(self.namespace):
            return super()._request(method, path, body, headers)

    def environment(self) -> dict[str, str]:
        """Have the C library tell the time of `clock_file`; the monotonic clock stays."""
        if self.clock_file is None:
            return super().environment()
        return super().environment() | {
            "LD_PRELOAD": str(faketime_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self.clock_file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def connects_in_s(self, other: NamespaceNode) -> float:
        """Return how long a TCP connection to another host's node takes: a round trip."""
        with inside(self.namespace):
            started = time.monotonic()
            address = (address_of(other.host), other.p2p_port)
            socket.create_connection(address, timeout=CONNECT_DEADLINE_S).close()
            return time.monotonic() - started

    def clock_is_ahead_s(self) -> float:
        """Return how far ahead of ours its wall clock is, as a program beside it reads it."""
        assert FAKETIME.rpartition("/")[2] in Path(f"/proc/{self.process.pid}/maps").read_text()
        read = [sys.executable, "-c", "import time; print(time.time_ns())"]
        told = subprocess.run(read, env=self.environment(), capture_output=True, check=True)
        return (int(told.stdout) - time.time_ns()) / 1e9

    def move_clock(self, ahead_s: int) -> None:
        """Move its wall clock at once to so many seconds ahead of ours."""
        assert self.clock_file is not None, f"{self.name} was not started with a clock of its own"
        draft = self.clock_file.with_suffix(".new")
        draft.write_text(f"{ahead_s:+d}\n")
        draft.replace(self.clock_file)


class NamespaceNetwork(RealNetwork):
    """Validators on hosts of their own; made by `namespace_network`."""

    def __init__(self, root: Path, switch: PacketSwitch, *, accounts: int, clocks: int) -> None:
        self.switch = switch
        self._clocks = clocks
        hosts = len(switch.namespaces)
        super().__init__(
            root, validators=hosts, accounts=accounts, ports=itertools.repeat(FIRST_PORT)
        )

    @property
    def hosts(self) -> list[NamespaceNode]:
        """The validators."""
        return [node for node in self.validators if isinstance(node, NamespaceNode)]

    def _make_node(self, name: str) -> NamespaceNode:
        made = super()._make_node(name)
        node = NamespaceNode(made.home, made.identity, made.p2p_port)
        node.host = int(name.removeprefix("node"))
        node.namespace = self.switch.namespaces[node.host]
        if node.host >= len(self.switch.namespaces) - self._clocks:
            node.clock_file = node.home.path / "clock"
            node.move_clock(0)
        return node

    def _settings(self, node: RealNode, **kinds: Any) -> dict[str, dict[str, Any]]:
        assert isinstance(node, NamespaceNode)
        settings = super()._settings(node, **kinds)
        settings["p2p"]["listen"] = [f"/ip4/{address_of(node.host)}/tcp/{node.p2p_port}"]
        settings["consensus"] |= {"delta_ms": DELTA_MS, "min_block_interval_ms": 50}
        return settings

    def heal(self) -> None:
        """Also mend all lines and set all clocks right."""
        self.switch.mend()
        for node in self.hosts:
            if node.clock_file is not None:
                node.move_clock(0)
            if node.is_suspended:
                node.resume()
        self.start()
        self.wait_height(self.height(), self.nodes, HEAL_DEADLINE_S)

    def part(self, *groups: Iterable[int]) -> None:
        """Cut both directions between hosts of different groups; a host in none has nobody."""
        place = {host: number for number, group in enumerate(groups) for host in group}
        everyone = range(len(self.validators))
        self.switch.cut(
            (a, b)
            for a in everyone
            for b in everyone
            if a != b and (a not in place or place[a] != place.get(b))
        )

    def worsen(self) -> None:
        """Make all lines as bad as the tests want them."""
        self.switch.set_line(delay_ms=DELAY_MS, jitter_ms=JITTER_MS, loss_ppm=LOSS_PPM)


@contextmanager
def namespace_network(
    root: Path, *, validators: int, accounts: int, clocks: int, small_disks: int, seed: str
) -> Iterator[NamespaceNetwork]:
    """Make a network in a folder and start it; at the end no process and no namespace is left.

    Args:
        root: The folder.
        validators: How many, one on each host.
        accounts: How many genesis funds.
        clocks: So many of the last validators have wall clocks that can be moved.
        small_disks: So many of the first ones have a small disk for their data.
        seed: What the lines' chance starts from.
    """
    with ExitStack() as held:
        switch = held.enter_context(PacketSwitch(hosts=validators, seed=seed))
        network = NamespaceNetwork(root, switch, accounts=accounts, clocks=clocks)
        for node in network.hosts[:small_disks]:
            held.enter_context(small_disk(node.home.data))
        held.callback(network.destroy)
        network.start()
        network.wait_height(1, network.nodes, HEAL_DEADLINE_S)
        yield network
