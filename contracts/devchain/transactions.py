"""Signed transactions: from raw bytes to what the pool, the EVM and the answers need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import rlp
from eth.abc import SignedTransactionAPI
from eth.exceptions import UnrecognizedTransactionType
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth_utils import ValidationError, keccak

from omninode.contracts.devchain.limits import INIT_CODE_BYTES_MAX, TRANSACTION_BYTES_MAX
from omninode.contracts.devchain.refusals import refuse

BLOB_TYPE: Final = 3
_FLOOR_GAS_PER_TOKEN: Final = 10
_BASE_GAS: Final = 21_000
_WORD_MAX: Final = 2**256 - 1
_COUNT_MAX: Final = 2**64 - 1
_HALF_ORDER: Final = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


@dataclass(frozen=True, slots=True, eq=False)
class Transaction:
    """A transaction whose signature was checked; fees are in wei for a unit of gas.

    `to` is `None` for the creation of a contract. A transaction of the old kinds has its gas price
    as both fees. `signed` is py-evm's form of it.
    """

    raw: bytes
    hash: bytes
    sender: bytes
    nonce: int
    gas: int
    to: bytes | None
    value: int
    data: bytes
    kind: int
    max_fee: int
    max_tip: int
    chain_id: int | None
    signed: SignedTransactionAPI

    @property
    def cost_max(self) -> int:
        """The most that it can cost its sender, in wei."""
        return self.gas * self.max_fee + self.value

    def tip(self, base_fee: int) -> int:
        """Return what it pays the miner above the base fee; negative if it can not pay that."""
        return min(self.max_tip, self.max_fee - base_fee)

    def price(self, base_fee: int) -> int:
        """Return what it pays for a unit of gas."""
        return min(self.max_fee, base_fee + self.max_tip)


def floor_gas(data: bytes) -> int:
    """Return what a transaction with such data pays for at least (EIP-7623)."""
    zeros = data.count(0)
    return _BASE_GAS + _FLOOR_GAS_PER_TOKEN * (zeros + 4 * (len(data) - zeros))


def decode_transaction(raw: bytes, sender: bytes | None = None) -> Transaction:
    """Decode a signed transaction.

    Args:
        raw: As `eth_sendRawTransaction` takes it.
        sender: Who signed it, if that is known; saves the recovery.

    Raises:
        CallRefused: It is none, or of an unknown kind, or not signed rightly.
    """
    if len(raw) > TRANSACTION_BYTES_MAX:
        raise refuse(f"oversized data: transaction size {len(raw)}, limit {TRANSACTION_BYTES_MAX}")
    try:
        signed = PragueTransactionBuilder.decode(raw)
        kind = signed.type_id or 0
        if kind == BLOB_TYPE:
            raise refuse("transaction type not supported")
        if signed.encode() != raw:
            raise refuse("rlp: not the canonical encoding")
        _check_ranges(signed)
        found = _recover(signed) if sender is None else sender
    except UnrecognizedTransactionType:
        raise refuse("transaction type not supported") from None
    except (rlp.RLPException, ValidationError, ValueError, TypeError, IndexError) as error:
        raise refuse(f"rlp: {str(error)[:200] or 'can not be decoded'}") from None
    return Transaction(
        raw=raw,
        hash=keccak(raw),
        sender=found,
        nonce=signed.nonce,
        gas=signed.gas,
        to=bytes(signed.to) or None,
        value=signed.value,
        data=bytes(signed.data),
        kind=kind,
        max_fee=signed.max_fee_per_gas,
        max_tip=signed.max_priority_fee_per_gas,
        chain_id=signed.chain_id,
        signed=signed,
    )


def _check_ranges(signed: SignedTransactionAPI) -> None:
    """Refuse numbers and sizes that the EVM has no room for."""
    words = (signed.value, signed.max_fee_per_gas, signed.max_priority_fee_per_gas)
    if max(words) > _WORD_MAX or max(signed.nonce + 1, signed.gas) > _COUNT_MAX:
        raise refuse("rlp: a number is too large")
    if len(signed.to) not in (0, 20):
        raise refuse("rlp: wrong size of the recipient's address")
    if signed.max_priority_fee_per_gas > signed.max_fee_per_gas:
        raise refuse("max priority fee per gas higher than max fee per gas")


def _recover(signed: SignedTransactionAPI) -> bytes:
    """Return who signed; a signature with a high s is none (EIP-2)."""
    if not 0 < signed.s <= _HALF_ORDER:
        raise refuse("invalid sender: invalid transaction v, r, s values")
    try:
        return bytes(signed.sender)
    except Exception as error:  # noqa: BLE001 - each curve library has errors of its own
        raise refuse(f"invalid sender: {str(error)[:200]}") from None


def check_transaction(transaction: Transaction, *, chain_id: int, gas_limit: int) -> None:
    """Refuse what no block of this chain could hold, whatever the state.

    Args:
        transaction: The transaction.
        chain_id: This chain's number.
        gas_limit: Gas of a block.

    Raises:
        CallRefused: With geth's words for it.
    """
    if transaction.chain_id is None:
        raise refuse("only replay-protected (EIP-155) transactions allowed over RPC")
    if transaction.chain_id != chain_id:
        raise refuse(
            f"invalid sender: invalid chain id for signer: have {transaction.chain_id} "
            f"want {chain_id}"
        )
    if transaction.to is None and len(transaction.data) > INIT_CODE_BYTES_MAX:
        raise refuse(
            f"max initcode size exceeded: code size {len(transaction.data)}, "
            f"limit {INIT_CODE_BYTES_MAX}"
        )
    if transaction.gas > gas_limit:
        raise refuse(f"exceeds block gas limit: {transaction.gas} of {gas_limit}")
    needed = transaction.signed.intrinsic_gas
    if transaction.gas < needed:
        raise refuse(f"intrinsic gas too low: gas {transaction.gas}, minimum needed {needed}")
    needed = floor_gas(transaction.data)
    if transaction.gas < needed:
        raise refuse(
            f"insufficient gas for floor data gas cost: gas {transaction.gas}, "
            f"minimum needed {needed}"
        )
