"""Transactions of an account on a real chain: sent twice, refused, failed, never mined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from money_world import money_world
from omninode.crypto import SigningKey
from omninode.errors import EndpointError, UserError
from omninode.node.funds import wallet as wallet_module
from omninode.node.funds.calls import BALANCE_OF, deposit, transfer
from omninode.node.funds.moving import approve_if_needed
from omninode.node.funds.wallet import OutcomeUnknown, SignedTransaction, Wallet

BOB = bytes([7]) * 20


@pytest.mark.slow
async def test_sent_twice_it_counts_once_and_what_would_fail_is_not_sent(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        await world.deploy()
        wallet, token = world.wallet(world.keys["alice"]), world.plan.tokens["USDC"]
        signed = await wallet.sign(transfer(token, BOB, 7))
        await wallet.send(signed)
        await wallet.send(signed)
        receipt = await wallet.receipt(signed)
        assert receipt["transactionHash"] == signed.hash
        await wallet.send(signed)
        assert await world.chain.read(token, BALANCE_OF, BOB) == 7

        nonce = await wallet.next_nonce()
        too_much = transfer(token, BOB, 10**30)
        with pytest.raises(UserError) as caught:
            await wallet.execute(too_much, what="the gift")
        assert caught.value.reason == "erc20_insufficient_balance"
        unapproved = deposit(world.plan.contract, token, 5, account=BOB, subaccount=0)
        with pytest.raises(UserError) as caught:
            await wallet.execute(unapproved, what="the deposit")
        assert caught.value.reason == "erc20_insufficient_allowance"
        assert await wallet.next_nonce() == nonce

        spender = world.plan.contract
        assert await approve_if_needed(wallet, world.chain, token, spender, 5) is not None
        assert await approve_if_needed(wallet, world.chain, token, spender, 5) is None


class Chain:
    """Answers from a table; a value that is an error is raised."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    async def __call__(self, method: str, params: list[Any]) -> Any:
        await trio.lowlevel.checkpoint()
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer


def a_wallet(**answers: Any) -> Wallet:
    return Wallet(SigningKey(bytes([1]) * 32), Chain(**answers), chain_id=1)


SIGNED = SignedTransaction("0x02", "0x" + "ab" * 32)


async def test_a_refusal_means_nothing_if_the_chain_knows_the_transaction() -> None:
    known = EndpointError(-32000, "already known")
    await a_wallet(eth_sendRawTransaction=known, eth_getTransactionByHash={}).send(SIGNED)
    unknown = a_wallet(eth_sendRawTransaction=known, eth_getTransactionByHash=None)
    with pytest.raises(UserError) as caught:
        await unknown.send(SIGNED)
    assert caught.value.reason == "chain_refused"
    assert caught.value.hint


@pytest.mark.parametrize(
    "answers",
    [
        {"eth_sendRawTransaction": UserError("node_unreachable", "gone")},
        {
            "eth_sendRawTransaction": EndpointError(-32000, "already known"),
            "eth_getTransactionByHash": UserError("node_unreachable", "gone"),
        },
    ],
)
async def test_what_may_have_been_sent_is_named(answers: dict[str, Any]) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        await a_wallet(**answers).send(SIGNED)
    assert caught.value.reason == "node_unreachable"
    assert SIGNED.hash in str(caught.value)
    gone = a_wallet(eth_getTransactionReceipt=UserError("node_unreachable", "gone"))
    with pytest.raises(OutcomeUnknown, match=SIGNED.hash):
        await gone.receipt(SIGNED)


async def test_what_is_never_mined_is_named(autojump_clock: trio.abc.Clock) -> None:
    with pytest.raises(UserError) as caught:
        await a_wallet(eth_getTransactionReceipt=None).receipt(SIGNED)
    assert caught.value.reason == "not_mined"
    assert SIGNED.hash in str(caught.value)
    assert trio.current_time() >= wallet_module.RECEIPT_DEADLINE_S


async def test_a_failed_transaction_is_a_failure() -> None:
    receipt = {"status": "0x0", "blockNumber": "0x7"}
    with pytest.raises(UserError) as caught:
        await a_wallet(eth_getTransactionReceipt=receipt).receipt(SIGNED)
    assert caught.value.reason == "transaction_failed"
    assert "block 7" in str(caught.value)
    assert caught.value.hint
