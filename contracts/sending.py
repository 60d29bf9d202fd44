"""Transactions of this validator's gas account: signed, journalled, sent, pursued.

Rules
    J1. The signed bytes are on disk before any endpoint sees them. After a crash the same bytes are
        sent again; the chain takes a nonce once, so there is one effect at most.
    J2. One nonce at a time. What is sent in its place, because the fee was too low, has the same
        nonce, so the chain takes one of them.
    J3. It is settled when one of them has a receipt, or the account's nonce has passed it. One that
        waits behind nonces that nobody uses is given up (R5 of `relay`); should it come after all,
        the contract has what it brings or something newer, or takes it.
"""

from __future__ import annotations

from typing import Any, Final

import structlog

from omninode.contracts.fees import ACCEPTED, REFUSED, Fee, first_fee, meaning
from omninode.contracts.limits import SENDS_OF_ONE_NONCE_MAX
from omninode.contracts.ports import Store
from omninode.contracts.records import RECORD_BYTES_MAX, SEND, StoredSend
from omninode.contracts.source import Source
from omninode.contracts.web3_library import eth_account
from omninode.contracts.wire import read_quantity
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.encoding import amount_from_bytes, amount_to_bytes, decode, encode
from omninode.errors import ChainError, EndpointError, Malformed, StorageFault

GAS_MAX: Final = 1 << 24
"""The most gas a transaction may have (EIP-7825)."""

_AMOUNT_LIMIT: Final = 2**128

log = structlog.get_logger(subsystem="settlement")


class GasAccount:
    """The account that pays for what is brought, and its one transaction on the way.

    Args:
        key: The account's key.
        store: The database.
        column: The byte all keys begin with.
        chain_id: The settlement chain's.

    Attributes:
        open: The transaction that is not settled, if any; from the disk at the start (J1).
    """

    def __init__(self, key: SigningKey, store: Store, *, column: bytes, chain_id: int) -> None:
        self.address: Final = checksum_address(key.address)
        self._key = key
        self._store = store
        self._record = column + SEND
        self._chain_id = chain_id
        self.open = self._load()

    def _load(self) -> StoredSend | None:
        stored = self._store.get(self._record)
        if stored is None:
            return None
        try:
            return decode(stored, StoredSend, size_max=RECORD_BYTES_MAX)
        except Malformed as error:
            raise StorageFault(f"the stored transaction is damaged: {error}") from error

    @property
    def open_fee(self) -> Fee:
        """The fee of the newest attempt."""
        send = self.open
        if send is None:
            return Fee(0, 0)
        return Fee(amount_from_bytes(send.max_fee), amount_from_bytes(send.tip))

    # --- Asking ----------------------------------------------------------------------------------

    async def nonce(self, source: Source) -> int:
        """Return how many transactions of the account are in blocks.

        Raises:
            ChainError: The endpoint failed.
        """
        return await _number(source, "eth_getTransactionCount", [self.address, "latest"])

    async def balance(self, source: Source) -> int:
        """Return what the account has, in wei.

        Raises:
            ChainError: The endpoint failed.
        """
        return await _number(source, "eth_getBalance", [self.address, "latest"])

    async def gas(self, source: Source, *, to: str, data: bytes) -> int:
        """Return how much gas a call needs, with a quarter to spare.

        Raises:
            EndpointError: The call would revert; `data` has the contract's error.
            ChainError: The endpoint failed.
        """
        call = {"from": self.address, "to": to, "data": "0x" + data.hex()}
        needed = await _number(source, "eth_estimateGas", [call])
        return min(needed + needed // 4, GAS_MAX)

    async def fee(self, source: Source, *, base_fee: int) -> Fee:
        """Return what to offer now.

        Raises:
            ChainError: The endpoint failed.
        """
        try:
            wished: int | None = await _number(source, "eth_maxPriorityFeePerGas", [])
        except EndpointError:
            wished = None  # Not every endpoint has the method.
        return first_fee(base_fee, wished)

    # --- Sending ---------------------------------------------------------------------------------

    async def sign(
        self, *, nonce: int, name: str, to: str, data: bytes, gas: int, fee: Fee
    ) -> None:
        """Sign a call and keep it, before it is sent (J1); with the open nonce, in its place (J2).

        Raises:
            StorageFault: The disk failed.
        """
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self._chain_id,
            "nonce": nonce,
            "to": to,
            "value": 0,
            "data": data,
            "gas": gas,
            "maxFeePerGas": fee.max_fee,
            "maxPriorityFeePerGas": fee.tip,
        }
        signed = eth_account.Account.sign_transaction(fields, self._key.secret)
        before = self.open.raws if self.open is not None and self.open.nonce == nonce else ()
        send = StoredSend(
            nonce,
            name,
            (*before, bytes(signed.raw_transaction)),
            amount_to_bytes(fee.max_fee),
            amount_to_bytes(fee.tip),
        )
        await self._store.write([(self._record, encode(send))], sync=True)
        self.open = send

    @property
    def may_replace(self) -> bool:
        """Whether there is an open transaction whose fee may be raised once more."""
        return self.open is not None and len(self.open.raws) < SENDS_OF_ONE_NONCE_MAX

    async def send(self, sources: list[Source]) -> str:
        """Send the newest attempt to all endpoints; returns the best answer as `fees` names it.

        Raises:
            ChainError: None of them answered.
        """
        if self.open is None:
            return REFUSED
        raw = "0x" + self.open.raws[-1].hex()
        answers: list[str] = []
        failure: ChainError | None = None
        for source in sources:
            try:
                await source.endpoint.call("eth_sendRawTransaction", [raw])
                answers.append(ACCEPTED)
            except EndpointError as error:
                answers.append(meaning(str(error)))
                if answers[-1] == REFUSED:
                    log.warning("transaction_refused", endpoint=source.name, why=str(error))
            except ChainError as error:
                failure = error
        if not answers and failure is not None:
            raise failure
        return ACCEPTED if ACCEPTED in answers else answers[0] if answers else REFUSED

    async def outcome(self, source: Source) -> str | None:
        """Return `done`, `failed` or `replaced` if the open transaction is settled (J3).

        Raises:
            ChainError: The endpoint failed.
        """
        if self.open is None:
            return None
        # First the nonce: what a receipt does not show afterwards was sent by somebody else.
        passed = await self.nonce(source) > self.open.nonce
        for raw in reversed(self.open.raws):
            status = await source.reader.receipt_status(keccak256(raw))
            if status is not None:
                return "done" if status == 1 else "failed"
        return "replaced" if passed else None

    async def is_out_of_reach(self, source: Source) -> bool:
        """Whether nonces are missing before that of the open transaction, so it can not come.

        Raises:
            ChainError: The endpoint failed.
        """
        return self.open is not None and await self.nonce(source) < self.open.nonce

    async def settle(self) -> None:
        """Forget the open transaction: its nonce is used, or out of reach.

        Raises:
            StorageFault: The disk failed.
        """
        await self._store.write([(self._record, None)], sync=True)
        self.open = None


async def _number(source: Source, method: str, params: list[Any]) -> int:
    answer = await source.endpoint.call(method, params)
    return source.read(lambda value: read_quantity(value, below=_AMOUNT_LIMIT), answer)
