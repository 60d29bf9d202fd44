"""Validator processes, small programs in their place: watched, restarted, never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from omninode.errors import UserError
from omninode.node.devnet import processes
from omninode.node.devnet.node_place import DevnetNode
from omninode.node.devnet.processes import (
    NodeProcess,
    ProcessFailed,
    Supervisor,
    log_tail,
    resident_megabytes,
)
from omninode.node.home import Home

SLEEPS = "import signal, time; print('up', flush=True); time.sleep(600)"
STOPS = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "sys.stderr.write('ready\\n'); sys.stderr.flush(); time.sleep(600)"
)
STUBBORN = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "sys.stderr.write('ready\\n'); sys.stderr.flush(); time.sleep(600)"
)
FAILS = "import sys; sys.stderr.write('\\n'.join(f'line {n}' for n in range(50))); sys.exit(3)"

SUPERVISES = """
import sys, trio
from omninode.node.devnet.processes import NodeProcess
from omninode.node.devnet.node_place import DevnetNode
from omninode.node.home import Home
import pathlib
process = NodeProcess(DevnetNode(0, Home(pathlib.Path(sys.argv[1])), 20000),
                      (sys.executable, "-c", "import time; time.sleep(600)"))
process.start()
print(process.process_id, flush=True)
input()
"""


def program(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


@pytest.fixture
def node(tmp_path: Path) -> DevnetNode:
    return DevnetNode(0, Home(tmp_path), 20_000)


async def log_says(node: DevnetNode, word: str) -> None:
    with trio.fail_after(20):
        while word not in "\n".join(log_tail(node.log_file)):
            await trio.sleep(0.01)


def is_running(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


async def test_a_process_stops_when_asked(node: DevnetNode) -> None:
    process = NodeProcess(node, program(STOPS))
    process.start()
    await log_says(node, "ready")
    process_id = process.process_id
    assert process_id is not None
    assert (resident_megabytes(process_id) or 0) > 1
    await process.stop()
    assert await process.wait() == 0
    assert process.process_id is None
    assert resident_megabytes(process_id) is None


async def test_a_stopped_process_is_woken_to_stop(node: DevnetNode) -> None:
    process = NodeProcess(node, program(STOPS))
    process.start()
    await log_says(node, "ready")
    assert process.process_id is not None
    os.kill(process.process_id, signal.SIGSTOP)
    with trio.fail_after(10):
        await process.stop()
    assert await process.wait() == 0


async def test_a_stubborn_process_is_killed(
    node: DevnetNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_DEADLINE_S", 0.2)
    process = NodeProcess(node, program(STUBBORN))
    process.start()
    await log_says(node, "ready")
    assert await process.stop()
    assert await process.wait() == -signal.SIGKILL


def test_the_process_dies_with_its_supervisor(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*program(SUPERVISES), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        child = int(supervisor.stdout.readline())
        assert is_running(child)
        supervisor.kill()
        supervisor.wait()
        deadline = time.monotonic() + 10
        while is_running(child) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_running(child)


def test_a_long_log_is_put_aside(node: DevnetNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "NODE_LOG_BYTES_MAX", 10)
    node.log_file.write_text("much more than ten bytes")
    process = NodeProcess(node, program(FAILS))
    process.start()
    assert process._popen is not None
    process._popen.wait()
    assert node.log_file.with_name("omninode.log.old").read_text() == "much more than ten bytes"
    assert log_tail(node.log_file) == [f"line {number}" for number in range(30, 50)]


def test_a_missing_log_has_no_tail(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "none") == []


class Supervised:
    """A supervisor over one small program."""

    def __init__(self, node: DevnetNode, text: str, *, restart: bool) -> None:
        self.told: list[str] = []
        self.process = NodeProcess(node, program(text))
        self.supervisor = Supervisor([self.process], restart=restart, tell=self.told.append)


async def test_who_fails_to_start_ends_the_devnet_with_its_last_lines(node: DevnetNode) -> None:
    supervised = Supervised(node, FAILS, restart=True)
    with pytest.raises(ExceptionGroup) as caught, trio.fail_after(20):
        await supervised.supervisor.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, ProcessFailed)
    assert isinstance(error, UserError)
    assert "exit code 3" in str(error)
    assert supervised.told == [f"line {number}" for number in range(30, 50)]


async def test_who_dies_later_is_started_again(
    node: DevnetNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "RESTART_DELAY_S", 0.01)
    supervised = Supervised(node, STOPS, restart=True)
    process = supervised.process
    async with trio.open_nursery() as nursery:
        await nursery.start(supervised.supervisor.run)
        await log_says(node, "ready")
        process.has_answered = True
        first = process.process_id
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with trio.fail_after(20):
            while process.starts < 2:
                await trio.sleep(0.01)
        second = process.process_id
        assert second not in (None, first)
        nursery.cancel_scope.cancel()
    assert supervised.told == ["node0 ended with signal SIGKILL, starting it again"]
    assert second is not None
    assert not is_running(second)


async def test_without_restart_the_dead_stay_dead(node: DevnetNode) -> None:
    supervised = Supervised(node, STOPS, restart=False)
    process = supervised.process
    async with trio.open_nursery() as nursery:
        await nursery.start(supervised.supervisor.run)
        await log_says(node, "ready")
        process.has_answered = True
        assert process.process_id is not None
        os.kill(process.process_id, signal.SIGKILL)
        with trio.fail_after(20):
            while not supervised.told:
                await trio.sleep(0.01)
        assert process.process_id is None
        nursery.cancel_scope.cancel()
    assert process.starts == 1
    assert supervised.told == ["node0 ended with signal SIGKILL and stays down"]
