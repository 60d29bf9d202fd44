"""The steps of a deposit and of a withdrawal that happen on the settlement chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from omninode.errors import ChainError, UserError
from omninode.node.funds.calls import (
    ALLOWANCE,
    DEPOSITED,
    IS_WITHDRAWN,
    STAKE_CHANGED,
    WITHDRAWN,
    Call,
    approve,
    deposit,
    topic,
)
from omninode.node.funds.chain import SettlementChain
from omninode.node.funds.limits import CLAIM_TRIES_MAX
from omninode.node.funds.terms import SettlementTerms
from omninode.node.funds.wallet import OutcomeUnknown, Wallet


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction that did what it should.

    Attributes:
        hash: The transaction.
        block: The block that it is in.
        index: Of the deposit or withdrawal.
    """

    hash: str
    block: int
    index: int


async def approve_if_needed(
    wallet: Wallet, chain: SettlementChain, token: bytes, spender: bytes, amount: int
) -> str | None:
    """Let the contract take tokens, unless it may already; return the transaction's hash.

    Raises:
        UserError: The chain refuses it, or it is in no block in time.
    """
    if await chain.read(token, ALLOWANCE, wallet.address, spender) >= amount:
        return None
    try:
        receipt = await wallet.execute(approve(token, spender, amount), what="the approval")
    except OutcomeUnknown as error:
        error.hint = "nothing was moved yet: it is safe to repeat the command"
        raise
    return str(receipt["transactionHash"])


async def send_deposit(
    wallet: Wallet,
    terms: SettlementTerms,
    token: bytes,
    amount: int,
    *,
    account: bytes,
    subaccount: int,
) -> Mined:
    """Deposit tokens that the contract may take.

    Raises:
        UserError: The contract refuses it, or it is in no block in time.
    """
    call = deposit(terms.contract, token, amount, account=account, subaccount=subaccount)
    try:
        receipt = await wallet.execute(call, what="the deposit")
    except OutcomeUnknown as error:
        error.hint = (
            "repeated, it would deposit twice: look for that transaction first, or see whether"
            " `omninode account show` has the deposit"
        )
        raise
    return _mined(receipt, terms.contract, DEPOSITED)


async def send_stake_request(wallet: Wallet, contract: bytes, call: Call, *, what: str) -> Mined:
    """Ask something about one's own validator; what it brings may be taken already.

    Raises:
        UserError: The contract refuses it, or it is in no block in time.
    """
    try:
        receipt = await wallet.execute(call, what=what)
    except OutcomeUnknown as error:
        error.hint = (
            "repeated, it would count twice: look for that transaction first, or see whether"
            " `omninode stake status` shows it"
        )
        raise
    return _mined(receipt, contract, STAKE_CHANGED)


async def send_claim(
    wallet: Wallet,
    chain: SettlementChain,
    terms: SettlementTerms,
    index: int,
    read_proof: Callable[[], Awaitable[dict[str, Any]]],
) -> Mined:
    """Have the contract pay a withdrawal out; anybody may.

    Args:
        wallet: Who pays the gas.
        chain: The chain.
        terms: The network's.
        index: Which withdrawal.
        read_proof: Returns an answer of `omni_getWithdrawalProof`.

    Raises:
        UserError: `already_claimed`, also if somebody else was faster; the contract refuses it;
            or it is in no block in time.
    """
    for _ in range(CLAIM_TRIES_MAX):
        if await chain.read(terms.contract, IS_WITHDRAWN, index):
            raise already_claimed(index)
        proof = await read_proof()
        call = Call(terms.contract, bytes.fromhex(proof["calldata"].removeprefix("0x")))
        try:
            receipt = await wallet.execute(call, what=f"withdrawal {index}")
        except UserError as error:
            if error.reason == "already_withdrawn" or await _is_paid(chain, terms, index):
                raise already_claimed(index, lost=error) from None
            if isinstance(error, OutcomeUnknown):
                error.hint = "a withdrawal is paid once: it is safe to repeat the command"
            if error.reason != "not_checkpointed":
                raise
            refused = error  # the checkpoint was replaced by a newer one: take a newer proof
            continue
        mined = _mined(receipt, terms.contract, WITHDRAWN)
        if mined.index != index:
            raise UserError(
                "bad_response",
                f"the proof was of withdrawal {mined.index}, not of {index}",
                hint="ask another node, with --rpc",
            )
        return mined
    raise refused


async def _is_paid(chain: SettlementChain, terms: SettlementTerms, index: int) -> bool:
    """Whether a withdrawal is known to be paid; looked up after a failure that says more."""
    try:
        return bool(await chain.read(terms.contract, IS_WITHDRAWN, index))
    except (UserError, ChainError):
        return False


def already_claimed(index: int, *, lost: UserError | None = None) -> UserError:
    """Return the error for a withdrawal that was paid out before.

    Args:
        index: Which withdrawal.
        lost: What became of a claim that came second.
    """
    message = f"withdrawal {index} was claimed already: its recipient has the tokens"
    if isinstance(lost, OutcomeUnknown):
        message += f", perhaps by this claim: {lost}"
    elif lost is not None and lost.reason != "already_withdrawn":
        message += f"; this claim came second: {lost}"
    return UserError("already_claimed", message, hint="nothing is left to do")


def _mined(receipt: dict[str, Any], contract: bytes, event: str) -> Mined:
    for log in receipt["logs"]:
        is_ours = log["address"].lower() == "0x" + contract.hex()
        if is_ours and log["topics"][0].lower() == topic(event):
            return Mined(
                str(receipt["transactionHash"]),
                int(receipt["blockNumber"], 16),
                int(log["topics"][1], 16),
            )
    raise UserError(
        "bad_response",
        f"the chain shows the transaction {receipt['transactionHash']} without its event",
        hint="look for it at another endpoint before you send another",
    )
