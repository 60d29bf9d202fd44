"""A devnet as a process, started and watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omninode.errors import UserError
from omninode.node.client import RpcClient

OMNINODE = (sys.executable, "-m", "omninode")
BASE_PORT = 20_000 + os.getpid() % 120 * 100
"""Of this process alone, so that tests may run side by side; below the ports that systems lend to
outgoing connections."""

READY = "opening book and house quotes are in place"


def wait_for(what: Callable[[], Any], *, seconds: float, why: str) -> Any:
    """Return what is true, as soon as it is."""
    deadline = time.monotonic() + seconds
    while True:
        found = what()
        if found:
            return found
        assert time.monotonic() < deadline, f"not after {seconds} s: {why}"
        time.sleep(0.05)


def call(port: int, method: str, **params: Any) -> Any:
    named: Any = [] if method.startswith("eth_") else params
    with RpcClient(f"http://127.0.0.1:{port}", timeout_s=10) as client:
        return client.call(method, named)


def processes_of(home: Path) -> dict[int, list[str]]:
    """Return the running processes that have this folder in their command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except (OSError, IndexError):
            continue
        if state != "Z" and any(word.startswith(str(home)) for word in words):
            found[int(entry.name)] = words
    return found


class Devnet:
    """A running `omninode devnet`."""

    def __init__(self, home: Path, *options: str, base_port: int, ignore: bool = False) -> None:
        self.home = home
        self.base_port = base_port
        folder = Path(tempfile.mkdtemp(dir=home.parent))
        self.out, self.err = folder / "out", folder / "err"
        words = [*OMNINODE, "--home", str(home), "devnet", "--base-port", str(base_port), *options]
        if ignore:
            words = ["sh", "-c", "trap '' INT TERM; exec \"$@\"", "sh", *words]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def shown(self) -> str:
        return self.out.read_text() + self.err.read_text()

    def ready(self) -> Devnet:
        wait_for(
            lambda: READY in self.shown() or self.process.poll() is not None,
            seconds=90,
            why="the devnet runs",
        )
        assert self.process.poll() is None, self.shown()
        return self

    def rpc(self, node: int, method: str, **params: Any) -> Any:
        return call(self.base_port + 10 * node + 1, method, **params)

    def height(self, node: int) -> int:
        try:
            return int(self.rpc(node, "omni_status")["height"])
        except UserError:
            return 0

    def process_of(self, node: int) -> int | None:
        text = (self.home / f"node{node}" / "omninode.lock").read_text().strip()
        return int(text) if text else None

    @staticmethod
    def words(home: Path, *arguments: str) -> list[str]:
        """Return the command line of a command on a home, with --json."""
        return [*OMNINODE, "--home", str(home), "--json", *arguments]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command on this devnet, with --json."""
        return subprocess.run(
            self.words(self.home, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def omninode(self, *words: str) -> Any:
        """Run a command that succeeds; returns its document."""
        done = self.run(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=40)
