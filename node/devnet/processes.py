"""The processes of a devnet, validators and chain: started, watched, started again, stopped.

Rules
    V1. Each validator is an `omninode start` of its own. Every process is in a session of its own
        (a terminal's Ctrl-C reaches the devnet alone), tied to this process: whatever ends the
        devnet, also `kill -9`, ends all of them.
    V2. One that dies before it has ever answered fails the start. Later it is started again after
        `RESTART_DELAY_S`, unless that is switched off.
    V3. At the end all get SIGTERM at once (and SIGCONT, if somebody stopped one), then
        `STOP_DEADLINE_S`, then SIGKILL. None is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio

from omninode.errors import UserError
from omninode.node.devnet import tether
from omninode.node.devnet.limits import (
    LOG_TAIL_BYTES,
    LOG_TAIL_LINES,
    NODE_LOG_BYTES_MAX,
    RESTART_DELAY_S,
    STOP_DEADLINE_S,
)
from omninode.node.devnet.node_place import DevnetNode

PROGRAM: Final = (sys.executable, "-m", "omninode")
"""What runs a command of ours, in this very environment."""


class ProcessFailed(UserError):
    """A process of the devnet did not start."""

    def __init__(self, process: DevnetProcess, code: int) -> None:
        super().__init__(
            "node_failed",
            f"{process.name} ended with {_how(code)} before it ran",
            hint=f"its log is {process.log_file}",
        )


class DevnetProcess:
    """One process of a devnet, now and after each restart.

    Args:
        name: What it is called.
        command: What to run.
        log_file: Where its stderr goes.

    Attributes:
        has_answered: Whether it ever answered (V2).
        is_given_up: Whether it is down and will not be started again.
        starts: How often it was started.
    """

    def __init__(self, name: str, command: Sequence[str], log_file: Path) -> None:
        self.name: Final = name
        self.log_file: Final = log_file
        self.has_answered = False
        self.is_given_up = False
        self.starts = 0
        self._command = tuple(command)
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def process_id(self) -> int | None:
        """The running process, if there is one."""
        popen = self._popen
        return None if popen is None or popen.returncode is not None else popen.pid

    def start(self) -> None:
        """Start the process, from the main thread (V1)."""
        path = self.log_file
        with suppress(FileNotFoundError):
            if path.stat().st_size > NODE_LOG_BYTES_MAX:
                path.replace(path.with_name(path.name + ".old"))
        tied = (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()))
        with path.open("ab") as log_file:
            self._popen = subprocess.Popen(
                (*tied, *self._command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log_file,
                start_new_session=True,
            )
        self.starts += 1

    async def wait(self) -> int:
        """Return the exit code once the process has ended."""
        popen = self._popen
        assert popen is not None
        if popen.poll() is not None:
            return popen.returncode
        descriptor = os.pidfd_open(popen.pid)
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        return popen.wait()

    async def stop(self) -> bool:
        """End the process (V3).

        Returns:
            Whether it took too long and was ended by force.
        """
        if self._popen is None or self._popen.poll() is not None:
            return False
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        with trio.move_on_after(STOP_DEADLINE_S) as scope:
            await self.wait()
        if scope.cancelled_caught:
            self._signal(signal.SIGKILL)
            await self.wait()
        return scope.cancelled_caught

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        if self.process_id is not None:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Signal the process and what it may have started; its group has its own id."""
        assert self._popen is not None
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


class NodeProcess(DevnetProcess):
    """One validator's process.

    Args:
        node: Which validator.
        program: What to run, without the arguments of ours.
    """

    def __init__(self, node: DevnetNode, program: Sequence[str] = PROGRAM) -> None:
        command = (*program, "--home", str(node.home.path), "start")
        super().__init__(node.moniker, command, node.log_file)
        self.node: Final = node


class Supervisor:
    """Keeps processes running.

    Args:
        processes: Which.
        restart: Whether one that dies is started again.
        tell: Told what happens to them, for people.
    """

    def __init__(
        self, processes: Sequence[DevnetProcess], *, restart: bool, tell: Callable[[str], None]
    ) -> None:
        self._processes: Final = tuple(processes)
        self._restart = restart
        self._tell = tell

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run all of them until cancelled; all have ended when this returns.

        Raises:
            ProcessFailed: One of them did not start (V2).
        """
        async with trio.open_nursery() as nursery:
            for process in self._processes:
                nursery.start_soon(self._keep, process)
            task_status.started()

    async def _keep(self, process: DevnetProcess) -> None:
        name = process.name
        try:
            while True:
                process.start()
                code = await process.wait()
                if not process.has_answered:
                    for line in log_tail(process.log_file):
                        self._tell(line)
                    raise ProcessFailed(process, code)
                if not self._restart:
                    process.is_given_up = True
                    self._tell(f"{name} ended with {_how(code)} and stays down")
                    await trio.sleep_forever()
                self._tell(f"{name} ended with {_how(code)}, starting it again")
                await trio.sleep(RESTART_DELAY_S)
        finally:
            with trio.CancelScope(shield=True):
                if await process.stop():
                    self._tell(f"{name} was killed: it did not stop in {STOP_DEADLINE_S:.0f} s")


def log_tail(path: Path) -> list[str]:
    """Return the last lines of a log; none if it can not be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            data = file.read(LOG_TAIL_BYTES)
    except OSError:
        return []
    return data.decode(errors="replace").splitlines()[-LOG_TAIL_LINES:]


def resident_megabytes(process_id: int | None) -> float | None:
    """Return how much memory a process has resident, in MiB; `None` if it is gone."""
    if process_id is None:
        return None
    try:
        lines = Path(f"/proc/{process_id}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) / 1024, 1)
    return None


def _how(code: int) -> str:
    """Say how a process ended."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
