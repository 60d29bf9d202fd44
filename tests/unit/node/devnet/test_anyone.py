"""Asking whichever validator answers."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.devnet.anyone import Anyone
from omninode.node.devnet.change import Change
from omninode.node.devnet.limits import ANSWER_DEADLINE_S


class Validator:
    """Answers with what is left in a list, then with its name."""

    def __init__(self, name: str, *answers: Exception, ready: bool = True) -> None:
        self.name = name
        self.answers = list(answers)
        self.ready = ready
        self.asked = 0

    async def call(self, method: str, params: Any) -> str:
        await trio.lowlevel.checkpoint()
        self.asked += 1
        if self.answers:
            raise self.answers.pop(0)
        return self.name


def anyone(*validators: Validator, change: Change | None = None) -> Anyone:
    return Anyone(validators, change or Change())  # type: ignore[arg-type]


async def test_each_call_goes_to_the_next() -> None:
    ask = anyone(Validator("a"), Validator("b"), Validator("c", ready=False))
    assert {await ask("omni_status", {}) for _ in range(4)} == {"a", "b"}


@pytest.mark.parametrize("reason", ["connection_lost", "timeout", "settlement_unreachable"])
async def test_who_can_not_answer_is_passed_over(
    reason: str, autojump_clock: trio.abc.Clock
) -> None:
    ask = anyone(Validator("a", UserError(reason)), Validator("b", UserError(reason)))
    assert await ask("omni_status", {}) in {"a", "b"}


@pytest.mark.parametrize("refusal", [UserError("unknown_method"), EndpointError(3, "reverted")])
async def test_a_refusal_is_an_answer(refusal: Exception) -> None:
    validators = [Validator("a", refusal), Validator("b", refusal)]
    with pytest.raises(type(refusal)):
        await anyone(*validators)("eth_call", [])
    assert sum(validator.asked for validator in validators) == 1


async def test_nobody_ready_is_waited_for_and_given_up(autojump_clock: trio.abc.Clock) -> None:
    change, validator = Change(), Validator("a", ready=False)
    ask = anyone(validator, change=change)
    began = trio.current_time()
    with pytest.raises(UserError) as caught:
        await ask("omni_status", {})
    assert caught.value.reason == "no_answer"
    assert trio.current_time() - began == pytest.approx(ANSWER_DEADLINE_S)
    async with trio.open_nursery() as nursery:

        async def become_ready() -> None:
            await trio.sleep(1)
            validator.ready = True
            change.tell()

        nursery.start_soon(become_ready)
        assert await ask("omni_status", {}) == "a"


async def test_what_is_no_answer_of_a_chain_is_refused() -> None:
    with pytest.raises(ChainError, match="eth_getBlockByNumber"):
        await anyone(Validator("0x10"))("eth_getBlockByNumber", ["latest", False])
