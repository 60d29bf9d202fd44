"""Waiting for either chain, also while the settlement chain does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode.node.cli.steps import Tell
    from omninode.node.funds.chain import Ask

WAIT_DEADLINE_S: Final = 900.0
"""How long a command waits for confirmations, a checkpoint or an answer, on whichever chain."""

POLL_S: Final = 0.25

_PASSING: Final = frozenset({"settlement_unreachable", "timeout", "busy"})
"""What a node says while the settlement chain is out of its reach."""


async def wait_until(is_so: Callable[[], Awaitable[bool]], message: str, *, hint: str) -> None:
    """Ask again and again, for as long as a command waits.

    Raises:
        UserError: `timeout`, with this message.
    """
    import trio

    with trio.move_on_after(WAIT_DEADLINE_S):
        while True:
            if await is_so():
                return
            await trio.sleep(POLL_S)
    raise UserError("timeout", message, hint=hint)


def is_silent(error: UserError) -> bool:
    """Whether an error only means that the settlement chain does not answer now."""
    return error.reason in _PASSING


def tell_silence(tell: Tell) -> None:
    """Say for what is waited."""
    tell("the settlement chain does not answer: waiting until it does")


def patient(ask: Ask, tell: Tell) -> Ask:
    """Return how to ask the settlement chain so that its silence is waited out.

    Asking again is safe: everything is a reading, but for a signed transaction, which counts once.
    """
    import trio

    async def ask_on(method: str, params: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        deadline = trio.current_time() + WAIT_DEADLINE_S
        was_silent = False
        while True:
            try:
                answer = await ask(method, params)
            except UserError as error:
                if not is_silent(error) or trio.current_time() >= deadline:
                    raise
                was_silent = True
                tell_silence(tell)
                await trio.sleep(POLL_S)
            else:
                if was_silent:
                    tell("the settlement chain answers again")
                return answer

    return ask_on
