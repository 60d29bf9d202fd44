"""The clock of the order flow: what is due goes out, round after round."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NoReturn

import trio

from omninode.errors import UserError
from omninode.node.devnet.flow import Flow, Request
from omninode.node.devnet.limits import OPENING_DEADLINE_S, OPENING_IN_FLIGHT_MAX, TICK_S
from omninode.node.devnet.sender import Sender


class Load:
    """Sends a recorded flow at its own pace, times `speed`.

    Args:
        flow: What to send.
        sender: How.
        speed: 2 sends two recorded seconds in each.
        pack_s: 0 signs each operation on its own; else what falls due within this time goes out
            together, one batch per account.
    """

    def __init__(
        self, flow: Flow, sender: Sender, *, speed: float = 1.0, pack_s: float = 0
    ) -> None:
        self._flow = flow
        self._sender = sender
        self._speed: Final = speed
        self._pack_s: Final = pack_s
        self._round = 0

    async def open_book(self) -> None:
        """Empty the book of our own orders and lay the opening book; outside of all measures.

        A part of it expires if the validator that acknowledged it dies and stays away: then it is
        done again, as the next round.

        Raises:
            UserError: `no_progress`: it is not final in time.
        """
        with trio.move_on_after(OPENING_DEADLINE_S) as scope:
            while True:
                expired_before = self._sender.unmeasured_expired
                await self._send_all(self._flow.clearing())
                await self._send_all(self._flow.opening(self._round))
                if self._sender.unmeasured_expired == expired_before:
                    break
                self._round += 1
        if scope.cancelled_caught:
            raise UserError(
                "no_progress",
                f"the opening book is not final after {OPENING_DEADLINE_S:.0f} s",
                hint="the validators' logs are in their homes",
            )

    async def _send_all(self, requests: Iterable[Request]) -> None:
        """Send requests, a bounded number at a time, and return when all are final."""
        identifiers: list[bytes] = []
        for request in requests:
            if len(identifiers) >= OPENING_IN_FLIGHT_MAX:
                await self._sender.settled(identifiers[: -OPENING_IN_FLIGHT_MAX + 1])
                del identifiers[: -OPENING_IN_FLIGHT_MAX + 1]
            identifiers.append(await self._sender.send(request, measured=False))
        await self._sender.settled(identifiers)

    async def run(self) -> NoReturn:
        """Send the flow from its first event after the opening book, until cancelled."""
        while True:
            await self._run_round()
            self._round += 1
            await self.open_book()

    async def _run_round(self) -> None:
        operations, wait_s = self._flow.live, max(TICK_S, self._pack_s)
        started_s = trio.current_time()
        place = 0
        while place < len(operations):
            due_ms = (trio.current_time() - started_s) * 1_000 * self._speed
            end = place
            while end < len(operations) and operations[end].time_ms <= due_ms:
                end += 1
            if self._pack_s:
                for request in self._flow.pack(self._round, operations[place:end]):
                    await self._sender.send(request, measured=True)
            else:
                for operation in operations[place:end]:
                    request = self._flow.request(self._round, operation)
                    await self._sender.send(request, measured=True)
            place = end
            if place < len(operations):
                due_s = started_s + operations[place].time_ms / 1_000 / self._speed
                await trio.sleep_until(max(due_s, trio.current_time() + wait_s))
