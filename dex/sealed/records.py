"""The records of module `sealed`: one byte for the kind, then what names the record.

| kind | rest of the key | value |
| --- | --- | --- |
| `c` | hash of the commit(32) | `SealedRecord` |
| `b` | number(8) | `BatchRecord` |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from omninode.consensus.types import Hash
from omninode.dex.actions import Address
from omninode.dex.events import OrderRecord
from omninode.dex.hashing import Changes
from omninode.dex.limits import RECORD_BYTES_MAX
from omninode.dex.open_orders import order_record, restored_order
from omninode.dex.sealed.state import COLLECTING, Batch, Sealed, SealedOrder
from omninode.dex.transaction import order_id
from omninode.encoding import amount_from_bytes, amount_to_bytes, decode, encode
from omninode.errors import Malformed

if TYPE_CHECKING:
    from omninode.dex.state import State

_COMMIT: Final = b"c"
_BATCH: Final = b"b"


class SealedRecord(msgspec.Struct, frozen=True, array_like=True):
    """A commitment, with the order once it is revealed."""

    account: Address
    subaccount: int
    market: str
    commitment: Hash
    bond: bytes
    reference: int
    batch: int
    height: int
    order: OrderRecord | None


class BatchRecord(msgspec.Struct, frozen=True, array_like=True):
    """Where a batch is."""

    first_ms: int
    last_height: int
    stage: str
    opened_height: int
    opened_ms: int
    leaders_needed: int
    leaders: tuple[Address, ...]


def take_sealed(sealed: Sealed) -> Changes:
    """Encode what changed since the last call, and begin to note changes anew."""
    changes: Changes = []
    for commit in sealed.changed_orders:
        entry = sealed.by_commit.get(commit)
        changes.append((_COMMIT + commit, None if entry is None else _sealed(entry)))
    batches = {batch.number: batch for batch in sealed.batches}
    for number in sealed.changed_batches:
        batch = batches.get(number)
        changes.append((_batch_key(number), None if batch is None else _batch(batch)))
    sealed.clear_changes()
    return changes


def sealed_records(sealed: Sealed) -> Iterator[tuple[bytes, bytes]]:
    """Encode the whole module, in no particular order."""
    for commit, entry in sealed.by_commit.items():
        yield _COMMIT + commit, _sealed(entry)
    for batch in sealed.batches:
        yield _batch_key(batch.number), _batch(batch)


def load_sealed(state: State, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Fill the module from its records; accounts and markets are there already.

    Raises:
        Malformed: A record that can not be read.
        KeyError: An unknown market.
    """
    for key, value in records:
        if key[:1] == _COMMIT and len(key) == 33:
            _load_order(state, key[1:], decode(value, SealedRecord, size_max=RECORD_BYTES_MAX))
        elif key[:1] == _BATCH and len(key) == 9:
            number = int.from_bytes(key[1:], "big")
            _load_batch(state, number, decode(value, BatchRecord, size_max=RECORD_BYTES_MAX))
        else:
            raise Malformed(f"a record of the sealed lane with key 0x{key.hex()}")


def _load_order(state: State, commit: bytes, record: SealedRecord) -> None:
    spec = state.markets[record.market].spec
    account = state.accounts.account(record.account, record.subaccount)
    entry = SealedOrder(
        transaction_hash=commit,
        order_id=order_id(commit, 0),
        account=account,
        market=record.market,
        commitment=record.commitment,
        bond=amount_from_bytes(record.bond),
        reference=record.reference,
        batch=record.batch,
        height=record.height,
    )
    if record.order is not None:
        entry.order = restored_order(record.order, account, spec)
    state.sealed.add(entry)


def _load_batch(state: State, number: int, record: BatchRecord) -> None:
    batch = Batch(number, first_ms=record.first_ms)
    batch.last_height = record.last_height
    batch.stage = record.stage
    batch.opened_height = record.opened_height
    batch.opened_ms = record.opened_ms
    batch.leaders_needed = record.leaders_needed
    batch.leaders = list(record.leaders)
    if batch.stage == COLLECTING:
        state.sealed.collecting = batch
    else:
        state.sealed.revealing = batch


def _batch_key(number: int) -> bytes:
    return _BATCH + number.to_bytes(8, "big")


def _sealed(entry: SealedOrder) -> bytes:
    account, order = entry.account, entry.order
    return encode(
        SealedRecord(
            account.owner.address,
            account.subaccount,
            entry.market,
            entry.commitment,
            amount_to_bytes(entry.bond),
            entry.reference,
            entry.batch,
            entry.height,
            None if order is None else order_record(order),
        )
    )


def _batch(batch: Batch) -> bytes:
    return encode(
        BatchRecord(
            batch.first_ms,
            batch.last_height,
            batch.stage,
            batch.opened_height,
            batch.opened_ms,
            batch.leaders_needed,
            tuple(batch.leaders),
        )
    )
