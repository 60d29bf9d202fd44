"""An account of the settlement chain that signs and sends transactions.

Rules
    W1. A transaction is signed once. Whatever happens on the way, only the same bytes are sent
        again, so it can not count twice.
    W2. A refusal to take it means nothing if the chain knows it already.
    W3. A transaction that may have been sent is named in every error until its outcome is known.
    W4. Gas is estimated before anything is signed: what would fail is refused for free, with the
        contract's own reason.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import trio

from omninode.crypto import SigningKey, checksum_address
from omninode.errors import EndpointError, UserError
from omninode.node.funds.calls import Call
from omninode.node.funds.chain import Ask, refuse
from omninode.node.funds.limits import (
    GAS_MARGIN_PERCENT,
    RECEIPT_DEADLINE_S,
    RECEIPT_POLL_S,
)


class OutcomeUnknown(UserError):
    """A transaction may be on its way, and nobody tells what became of it (W3)."""


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction of the settlement chain, ready to be sent, also again."""

    raw: str
    hash: str


@dataclass(frozen=True, slots=True)
class Fees:
    """What a transaction may pay for a unit of gas, in wei."""

    max_fee: int
    priority_fee: int


class Wallet:
    """Sends transactions of one key.

    Args:
        key: The account's key.
        ask: Who passes calls on to the chain.
        chain_id: The chain for which is signed, whatever that endpoint says.
        receipt_deadline_s: How long a transaction may take into a block.
    """

    def __init__(
        self,
        key: SigningKey,
        ask: Ask,
        *,
        chain_id: int,
        receipt_deadline_s: float = RECEIPT_DEADLINE_S,
    ) -> None:
        self.address: Final = key.address
        self._key = key
        self._ask = ask
        self._chain_id = chain_id
        self._receipt_deadline_s = receipt_deadline_s

    async def next_nonce(self) -> int:
        """Return the number of the account's next transaction, those under way included."""
        params = [checksum_address(self.address), "pending"]
        return int(await self._ask("eth_getTransactionCount", params), 16)

    async def fees(self) -> Fees:
        """Return fees that hold while the base fee less than doubles."""
        block = await self._ask("eth_getBlockByNumber", ["latest", False])
        priority = int(await self._ask("eth_maxPriorityFeePerGas", []), 16)
        return Fees(2 * int(block.get("baseFeePerGas", "0x0"), 16) + priority, priority)

    async def sign(
        self, call: Call, *, nonce: int | None = None, fees: Fees | None = None, what: str = "this"
    ) -> SignedTransaction:
        """Sign a transaction (W4).

        Args:
            call: What it does.
            nonce: Its number; `None` takes the next.
            fees: What it pays; `None` asks the chain.
            what: What it is, for people.

        Raises:
            UserError: The contract or the chain would refuse it.
        """
        fees = fees or await self.fees()
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": await self.next_nonce() if nonce is None else nonce,
            "to": b"" if call.to is None else checksum_address(call.to),
            "value": call.value,
            "data": call.data,
            "gas": call.gas or await self._estimate(call, what),
            "maxFeePerGas": fees.max_fee,
            "maxPriorityFeePerGas": fees.priority_fee,
        }
        signed = _account_library().Account.sign_transaction(fields, self._key.secret)
        return SignedTransaction(signed.raw_transaction.to_0x_hex(), signed.hash.to_0x_hex())

    async def send(self, transaction: SignedTransaction, *, what: str = "this") -> None:
        """Hand a transaction to the chain; again does no harm (W1, W2).

        Raises:
            UserError: It was refused; or `OutcomeUnknown`.
        """
        try:
            await self._ask_about(transaction, "eth_sendRawTransaction", transaction.raw, what=what)
        except EndpointError as error:
            known = await self._ask_about(
                transaction, "eth_getTransactionByHash", transaction.hash, what=what
            )
            if known is None:
                refuse(error, what)

    async def _ask_about(
        self, transaction: SignedTransaction, method: str, param: str, *, what: str
    ) -> Any:  # noqa: ANN401 - any JSON
        try:
            return await self._ask(method, [param])
        except UserError as error:  # W3
            raise OutcomeUnknown(
                error.reason,
                f"{error}; the transaction of {what}, {transaction.hash}, may be on its way",
                hint="look for it before you send another",
            ) from None

    async def receipt(
        self, transaction: SignedTransaction, *, what: str = "this"
    ) -> dict[str, Any]:
        """Wait until a transaction is in a block, and return its receipt.

        Raises:
            UserError: `transaction_failed`: it is in a block without effect; `OutcomeUnknown`:
                `not_mined`, or nobody answered.
        """
        found: dict[str, Any] | None = None
        with trio.move_on_after(self._receipt_deadline_s):
            while True:
                found = await self._ask_about(
                    transaction, "eth_getTransactionReceipt", transaction.hash, what=what
                )
                if found is not None:
                    break
                await trio.sleep(RECEIPT_POLL_S)
        if found is None:
            raise OutcomeUnknown(
                "not_mined",
                f"the transaction of {what}, {transaction.hash}, is in no block after "
                f"{self._receipt_deadline_s:.0f} s",
                hint="it may still come; look for it before you send another",
            )
        if int(found["status"], 16) != 1:
            raise UserError(
                "transaction_failed",
                f"the transaction of {what}, {transaction.hash}, failed in block "
                f"{int(found['blockNumber'], 16)}; it cost its gas and did nothing",
                hint="nothing was moved, so it does no harm to try again",
            )
        return found

    async def execute(self, call: Call, *, what: str) -> dict[str, Any]:
        """Sign, send and wait; return the receipt.

        Raises:
            UserError: As `sign`, `send` and `receipt`.
        """
        transaction = await self.sign(call, what=what)
        await self.send(transaction, what=what)
        return await self.receipt(transaction, what=what)

    async def _estimate(self, call: Call, what: str) -> int:
        request = {
            "from": checksum_address(self.address),
            "data": "0x" + call.data.hex(),
            "value": hex(call.value),
        }
        if call.to is not None:
            request["to"] = checksum_address(call.to)
        try:
            estimate = int(await self._ask("eth_estimateGas", [request]), 16)
        except EndpointError as error:
            refuse(error, what)
        return estimate * (100 + GAS_MARGIN_PERCENT) // 100


def _account_library() -> ModuleType:
    """Import the library that signs when it is needed: it takes half a second.

    A package below it raises the interpreter's recursion limit a hundredfold; that is put back, so
    that deeply nested input stays an error.
    """
    limit = sys.getrecursionlimit()
    try:
        return importlib.import_module("eth_account")
    finally:
        sys.setrecursionlimit(limit)
