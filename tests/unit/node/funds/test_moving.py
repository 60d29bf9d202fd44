"""Claims and deposits on a real contract: two at once, and a connection that breaks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from money_world import RECIPIENT, MoneyWorld, money_world
from omninode.crypto import SigningKey
from omninode.errors import UserError
from omninode.node.funds.calls import BALANCE_OF
from omninode.node.funds.chain import SettlementChain
from omninode.node.funds.moving import Mined, approve_if_needed, send_claim, send_deposit
from omninode.node.funds.wallet import OutcomeUnknown, Wallet

pytestmark = pytest.mark.slow


class Way:
    """Passes calls on to the chain.

    Args:
        world: Where to.
        key: Whose transactions; `None` is alice.
        breaks: The connection breaks as soon as a transaction was sent.
        meanwhile: What happens once between the estimate and the sending.
    """

    def __init__(
        self,
        world: MoneyWorld,
        *,
        key: SigningKey | None = None,
        breaks: bool = False,
        meanwhile: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        self.sent: list[str] = []
        self._world = world
        self._key = key or world.keys["alice"]
        self._breaks = breaks
        self._meanwhile = meanwhile

    async def __call__(self, method: str, params: list[Any]) -> Any:
        if self._breaks and self.sent:
            raise UserError("node_unreachable", "no node answers")
        answer = await self._world.endpoint.call(method, params)
        if method == "eth_sendRawTransaction":
            self.sent.append(answer)
        if method == "eth_estimateGas" and self._meanwhile is not None:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        return answer

    def wallet(self) -> Wallet:
        return Wallet(self._key, self, chain_id=self._world.genesis.settlement_chain_id)


async def claim(world: MoneyWorld, way: Way, proof: dict[str, Any]) -> Mined:
    async def read_proof() -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        return proof

    chain = SettlementChain(way)
    return await send_claim(way.wallet(), chain, world.terms, proof["id"], read_proof)


async def test_a_claim_that_comes_second_says_that_the_withdrawal_is_paid(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        await world.deploy()
        first, second = await world.checkpoint_withdrawals((5, 7))

        async def rival() -> None:
            await claim(world, Way(world, key=world.deployer), first)

        way = Way(world, meanwhile=rival)
        with pytest.raises(UserError) as caught:
            await claim(world, way, first)
        assert (caught.value.reason, len(way.sent)) == ("already_claimed", 1)
        assert way.sent[0] in str(caught.value)
        assert "cost its gas" in str(caught.value)
        assert caught.value.hint
        token = world.plan.tokens["USDC"]
        assert await world.chain.read(token, BALANCE_OF, RECIPIENT) == 5

        broken = Way(world, breaks=True)
        with pytest.raises(OutcomeUnknown) as unknown:
            await claim(world, broken, second)
        assert unknown.value.reason == "node_unreachable"
        assert broken.sent[0] in str(unknown.value)
        assert "safe to repeat" in unknown.value.hint

        await wait_mined(world, broken.sent[0])
        with pytest.raises(UserError) as again:
            await claim(world, Way(world), second)
        assert again.value.reason == "already_claimed"
        assert await world.chain.read(token, BALANCE_OF, RECIPIENT) == 12

        await _broken_deposit(world, token)


async def _broken_deposit(world: MoneyWorld, token: bytes) -> None:
    """It is named, and nobody is told to repeat it."""
    await approve_if_needed(Way(world).wallet(), world.chain, token, world.plan.contract, 3)
    way = Way(world, breaks=True)
    with pytest.raises(OutcomeUnknown) as unknown:
        await send_deposit(way.wallet(), world.terms, token, 3, account=RECIPIENT, subaccount=0)
    assert way.sent[0] in str(unknown.value)
    assert "twice" in unknown.value.hint


async def wait_mined(world: MoneyWorld, transaction: str) -> None:
    with trio.fail_after(30):
        while await world.endpoint.call("eth_getTransactionReceipt", [transaction]) is None:
            await trio.sleep(0.02)
