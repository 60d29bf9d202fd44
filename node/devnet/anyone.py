"""Asking whichever validator answers, as a client with a list of nodes does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import trio

from omninode.errors import UserError
from omninode.node.devnet.answers import check_answer
from omninode.node.devnet.change import Change
from omninode.node.devnet.connection import Connection, Params
from omninode.node.devnet.limits import ANSWER_DEADLINE_S, ANSWER_RETRY_S
from omninode.node.devnet.sender import LOST_REASONS

_ELSEWHERE: Final = LOST_REASONS | {"settlement_unreachable", "settlement_off", "busy"}
"""Refusals that another validator, or the same one later, may not repeat."""


class Anyone:
    """Passes each call to one of the validators, the next one each time.

    Also an `Ask` of the settlement chain: every validator passes `eth_*` calls on.

    Args:
        connections: One per validator.
        change: Told when one becomes ready.
    """

    def __init__(self, connections: Sequence[Connection], change: Change) -> None:
        self._connections = tuple(connections)
        self._change = change
        self._turn = 0

    async def __call__(self, method: str, params: Params) -> Any:  # noqa: ANN401 - any JSON
        """Return the first answer.

        Raises:
            UserError: A validator refused, or none answers in time.
            ChainError: The settlement chain refused, or its answer is none.
        """
        last = UserError("no_answer", f"no validator answers {method}")
        with trio.move_on_after(ANSWER_DEADLINE_S):
            while True:
                connection = await self._next()
                try:
                    answer = await connection.call(method, params)
                    check_answer(method, answer)
                    return answer
                except UserError as error:
                    if error.reason not in _ELSEWHERE:
                        raise
                    last = error
                await trio.sleep(ANSWER_RETRY_S)
        raise last

    async def _next(self) -> Connection:
        while True:
            for _ in self._connections:
                self._turn = (self._turn + 1) % len(self._connections)
                if self._connections[self._turn].ready:
                    return self._connections[self._turn]
            await self._change.until(lambda: any(one.ready for one in self._connections))
