"""Passes calls on to the endpoint of the settlement chain.

Rules
    W1. At most `FORWARDS_IN_FLIGHT_MAX` calls are with the endpoint; further ones wait in order, up
        to `FORWARDS_WAITING_MAX`.
    W2. What the endpoint says goes to the caller unchanged, errors too: a result as the very text
        that came, an error with its code, its message (cut, if it is long) and its data (left out,
        if they are long). Our own refusals are `no_settlement`, `settlement_off`,
        `settlement_unreachable`, `response_too_large`, `busy` and `timeout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from omninode.contracts.failures import EndpointFailure
from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.rpc.errors import NoAnswerYet
from omninode.node.rpc.limits import (
    FORWARD_TIMEOUT_S,
    FORWARDS_IN_FLIGHT_MAX,
    FORWARDS_WAITING_MAX,
)

if TYPE_CHECKING:
    from omninode.node.rpc.ports import Settlement

REFUSALS: Final = (
    "no_settlement",
    "settlement_off",
    "settlement_unreachable",
    "response_too_large",
    "busy",
    "timeout",
)
"""The reasons that a forwarded call may be refused with by this node."""


class Forwarding:
    """The way to the settlement chain, for all callers of one node.

    Args:
        settlement: The node's side of the chain; `None` in a network without one.
    """

    def __init__(self, settlement: Settlement | None) -> None:
        self._settlement = settlement
        self._limiter = trio.CapacityLimiter(FORWARDS_IN_FLIGHT_MAX)

    async def call(self, method: str, params: list[Any]) -> object:
        """Return what the endpoint answers.

        Raises:
            EndpointError: The endpoint's own error.
            UserError: One of `REFUSALS`.
        """
        settlement = self._settlement
        if settlement is None:
            raise UserError("no_settlement", "the network has no settlement chain")
        if settlement.status().state == "off":
            raise UserError("settlement_off", "this node has no endpoint of the settlement chain")
        if self._limiter.statistics().tasks_waiting >= FORWARDS_WAITING_MAX:
            raise UserError("busy", "too many calls wait for the settlement chain")
        with trio.move_on_after(FORWARD_TIMEOUT_S):
            async with self._limiter:
                try:
                    return await settlement.forward(method, params)
                except EndpointError:
                    raise
                except ChainError as error:
                    raise _refusal(error) from error
        raise NoAnswerYet(
            f"the settlement chain took longer than {FORWARD_TIMEOUT_S:g} s",
            hint="ask again; eth_getTransactionByHash tells whether a transaction was taken",
        )


def _refusal(error: ChainError) -> UserError:
    if isinstance(error, EndpointFailure) and error.too_long:
        return UserError(
            "response_too_large",
            str(error),
            hint="ask for less: a smaller range of blocks, or one contract's logs",
        )
    return UserError("settlement_unreachable", str(error))
