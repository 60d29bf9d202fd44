"""What the devnet knows of its validators: one connection to each, and what they report.

Every validator tells each stored block over its own subscription; that is where heights, app hashes
and finality come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from omninode.errors import UserError
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection, Document
from omninode.node.devnet.limits import MESH_DEADLINE_S, START_DEADLINE_S
from omninode.node.devnet.node_place import DevnetNode
from omninode.node.devnet.processes import NodeProcess
from omninode.node.devnet.tracker import Tracker

_POLL_S: Final = 0.1


@dataclass(slots=True)
class Seen:
    """The newest block that a validator told of."""

    height: int = 0
    app_hash: str = ""


class Observer:
    """Holds the connections to all validators and feeds the tracker.

    Args:
        nodes: The validators.
        tracker: Told which transactions are final.
        change: Told when a validator answers or has a new block.
    """

    def __init__(self, nodes: Sequence[DevnetNode], tracker: Tracker, change: Change) -> None:
        self.seen: Final = tuple(Seen() for _ in nodes)
        self.connections: Final = tuple(
            Connection(
                node.websocket_url,
                on_connect=partial(self._subscribe, node.index),
                on_notice=partial(self._take, node.index),
                on_change=change.tell,
            )
            for node in nodes
        )
        self._tracker = tracker
        self._change = change

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Stay connected with all validators until cancelled."""
        async with trio.open_nursery() as nursery:
            for connection in self.connections:
                nursery.start_soon(connection.run)
            task_status.started()

    async def _subscribe(self, index: int, connection: Connection) -> None:
        await connection.call("omni_subscribe", {"channel": "blocks"})
        status = await connection.call("omni_status")
        seen = self.seen[index]
        if status["height"] >= seen.height:
            seen.height, seen.app_hash = status["height"], status["app_hash"]

    def _take(self, index: int, notice: Document) -> None:
        if notice.get("channel") != "blocks":
            return
        seen = self.seen[index]
        seen.height, seen.app_hash = notice["height"], notice["app_hash"]
        self._change.tell()
        identifiers = (
            bytes.fromhex(row["hash"][2:])
            for row in notice["transactions"]
            if row["code"] != "ignored"  # that inclusion had no effect
        )
        self._tracker.block(index, notice["height"], identifiers, now_s=trio.current_time())

    async def all_running(self, processes: Sequence[NodeProcess]) -> None:
        """Return when every validator answers and has a block beyond genesis.

        Raises:
            UserError: `no_progress`: that takes longer than `START_DEADLINE_S`.
        """
        with trio.move_on_after(START_DEADLINE_S) as scope:
            for connection, process in zip(self.connections, processes, strict=True):
                await self._change.until(partial(_is_connected, connection))
                process.has_answered = True
            await self._change.until(lambda: all(seen.height for seen in self.seen))
        if scope.cancelled_caught:
            raise UserError(
                "no_progress",
                f"the network makes no blocks after {START_DEADLINE_S:.0f} s",
                hint="the validators' logs are in their homes",
            )

    async def all_at(self, height: int, processes: Sequence[NodeProcess]) -> None:
        """Return when every validator that is up, or will be again, has reached a height."""
        expected = [place for place, process in enumerate(processes) if not process.is_given_up]

        def are_there() -> bool:
            return all(
                self.connections[place].connected and self.seen[place].height >= height
                for place in expected
            )

        await self._change.until(are_there)

    async def meshed(self) -> list[int]:
        """Wait a while for all validators to be connected to all others.

        Returns:
            How many peers each has; 0 for one that does not answer.
        """
        counts: list[int] = []
        with trio.move_on_after(MESH_DEADLINE_S):
            while not counts or min(counts) < len(self.connections) - 1:
                counts = [await _peers_of(connection) for connection in self.connections]
                await trio.sleep(_POLL_S)
        return counts


async def _peers_of(connection: Connection) -> int:
    try:
        return int((await connection.call("omni_status"))["peers"])
    except UserError:
        return 0


def _is_connected(connection: Connection) -> bool:
    return connection.connected


def trades_in(markets: Document | None) -> int:
    """Return how many trades there were in all markets, of an answer of `omni_getMarkets`."""
    rows: list[dict[str, Any]] = [] if markets is None else markets["markets"]
    return sum(int(row["trades"]) for row in rows)
