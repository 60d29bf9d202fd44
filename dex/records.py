"""State records: every piece of the state as a key and a value, for the database and the app hash.

Rules
    R1. The first byte of a key names the module (`PREFIXES`); the rest has a fixed length per
        module, in modules `bridge`, `staking` and `sealed` per kind of record (their `records`).
    R2. Loading the records gives the state back exactly, also the priority of resting orders.
    R3. A changed record is encoded once per block, however often it changed.
    R4. The head record (height, time, app hash) is written every block and hashed in none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TypeVar

import msgspec

from omninode.crypto import ADDRESS_BYTES
from omninode.dex.accounts import Balance
from omninode.dex.bridge.records import bridge_records, load_bridge, take_bridge
from omninode.dex.events import OrderRecord
from omninode.dex.hashing import Changes
from omninode.dex.limits import RECORD_BYTES_MAX
from omninode.dex.markets import Market
from omninode.dex.open_orders import order_record, restored_order
from omninode.dex.sealed.records import load_sealed, sealed_records, take_sealed
from omninode.dex.staking.records import load_staking, staking_records, take_staking
from omninode.dex.state import State
from omninode.dex.stored import (
    AgentRecord,
    ClientIdRecord,
    HeadRecord,
    MarketRecord,
    NonceRecord,
)
from omninode.encoding import AMOUNT_BYTES, amount_from_bytes, amount_to_bytes, decode, encode
from omninode.errors import Malformed, StorageFault

PREFIXES: Final = {
    "accounts": b"a",
    "orders": b"o",
    "markets": b"m",
    "nonces": b"n",
    "client_ids": b"c",
    "agents": b"g",
    "bridge": b"b",
    "staking": b"v",
    "sealed": b"l",
}
HEAD_KEY: Final = b"h"

_ACCOUNT, _ORDER, _MARKET, _NONCES, _CLIENT_IDS, _AGENT, _BRIDGE, _STAKING, _SEALED = (
    PREFIXES.values()
)
_BALANCE_KEY_BYTES: Final = ADDRESS_BYTES + 2 + 2
_T = TypeVar("_T")


def take_changes(state: State) -> dict[str, Changes]:
    """Encode what changed since the last call, by module (R3), and begin to note changes anew."""
    changes: dict[str, Changes] = {
        "accounts": [_balance_entry(balance) for balance in state.accounts.dirty],
        "orders": _take_orders(state),
        "markets": [_market_entry(market) for market in state.market_list if market.dirty],
        "nonces": _by_height(_NONCES, state.nonces.changed),
        "client_ids": _by_height(_CLIENT_IDS, state.client_ids.changed),
        "agents": [
            (_AGENT + account + agent, None if approval is None else encode(approval))
            for (account, agent), approval in state.agents.changed.items()
        ],
    }
    if state.bridge.is_on:
        changes["bridge"] = [(_BRIDGE + key, value) for key, value in take_bridge(state.bridge)]
    if state.staking.is_on:
        changes["staking"] = [(_STAKING + key, value) for key, value in take_staking(state)]
    if state.sealed.changed_orders or state.sealed.changed_batches:
        changes["sealed"] = [(_SEALED + key, value) for key, value in take_sealed(state.sealed)]
    for market in state.market_list:
        market.dirty = False
    state.accounts.clear()
    state.nonces.changed.clear()
    state.client_ids.changed.clear()
    state.agents.changed.clear()
    return changes


def all_records(state: State) -> Iterator[tuple[bytes, bytes]]:
    """Encode the whole state except the head, in no particular order: for snapshots and tests."""
    for owner in state.accounts.owners.values():
        for account in owner.subaccounts.values():
            for balance in account.balances.values():
                key, value = _balance_entry(balance)
                if value is not None:
                    yield key, value
    for order in state.open_orders.by_id.values():
        yield _ORDER + order.order_id, encode(order_record(order))
    for market in state.market_list:
        if market.sequence or market.trades:
            yield _market_entry(market)
    for height, used in state.nonces.records():
        yield _NONCES + height.to_bytes(8, "big"), encode(used)
    for height, ids in state.client_ids.records():
        yield _CLIENT_IDS + height.to_bytes(8, "big"), encode(ids)
    for address, agent, approval in state.agents.records():
        yield _AGENT + address + agent, encode(approval)
    for key, value in bridge_records(state):
        yield _BRIDGE + key, value
    for key, value in staking_records(state):
        yield _STAKING + key, value
    for key, value in sealed_records(state.sealed):
        yield _SEALED + key, value


def head_entry(head: HeadRecord) -> tuple[bytes, bytes]:
    """Return the head's key and value (R4)."""
    return HEAD_KEY, encode(head)


def load_records(state: State, records: Iterable[tuple[bytes, bytes]]) -> HeadRecord | None:
    """Fill an empty state from its records, in any order (R2).

    Returns:
        The head, or None when there was no record at all.

    Raises:
        StorageFault: A record that can not be read, or records without a head.
    """
    by_module: dict[bytes, list[tuple[bytes, bytes]]] = {p: [] for p in PREFIXES.values()}
    by_module[HEAD_KEY] = []
    for key, value in records:
        entries = by_module.get(key[:1])
        if entries is None:
            raise StorageFault(f"state record with the unknown key 0x{key[:64].hex()}")
        entries.append((key[1:], value))
    heads = by_module.pop(HEAD_KEY)
    if not heads:
        if any(by_module.values()):
            raise StorageFault("state records without a head record")
        return None
    try:
        _load_balances(state, by_module[_ACCOUNT])
        _load_orders(state, by_module[_ORDER])
        _load_markets(state, by_module[_MARKET])
        for key, value in sorted(by_module[_NONCES]):
            state.nonces.load(int.from_bytes(key, "big"), _read(value, NonceRecord))
        for key, value in sorted(by_module[_CLIENT_IDS]):
            state.client_ids.load(int.from_bytes(key, "big"), _read(value, ClientIdRecord))
        for key, value in sorted(by_module[_AGENT]):
            address, agent = key[:ADDRESS_BYTES], key[ADDRESS_BYTES:]
            state.agents.load(address, agent, _read(value, AgentRecord))
        load_staking(state, by_module[_STAKING])  # the bridge asks for the current set
        load_bridge(state, by_module[_BRIDGE])
        load_sealed(state, by_module[_SEALED])
        return _read(heads[0][1], HeadRecord)
    except (Malformed, KeyError, IndexError) as error:
        raise StorageFault(f"a state record can not be read: {error}") from None


def _read(value: bytes, kind: type[_T]) -> _T:
    return decode(value, kind, size_max=RECORD_BYTES_MAX)


def _balance_entry(balance: Balance) -> tuple[bytes, bytes | None]:
    if balance.free or balance.held:
        value = amount_to_bytes(balance.free) + amount_to_bytes(balance.held)
        return _ACCOUNT + balance.key, value
    return _ACCOUNT + balance.key, None


def _market_entry(market: Market) -> tuple[bytes, bytes]:
    record = MarketRecord(market.sequence, market.trades, market.last_price)
    return _MARKET + market.spec.index.to_bytes(2, "big"), encode(record)


def _by_height(prefix: bytes, changed: Mapping[int, msgspec.Struct | None]) -> Changes:
    return [
        (prefix + height.to_bytes(8, "big"), None if record is None else encode(record))
        for height, record in changed.items()
    ]


def _take_orders(state: State) -> Changes:
    """Encode the changed orders; from now on their records lie in the database."""
    orders = state.open_orders
    entries: Changes = []
    for order_id, record in orders.changed.items():
        if record is None:
            entries.append((_ORDER + order_id, None))
        else:
            orders.by_id[order_id].is_stored = True
            entries.append((_ORDER + order_id, encode(record)))
    orders.changed.clear()
    return entries


def _load_balances(state: State, entries: list[tuple[bytes, bytes]]) -> None:
    for key, value in entries:
        if len(key) != _BALANCE_KEY_BYTES or len(value) != 2 * AMOUNT_BYTES:
            raise Malformed(f"a balance with key 0x{key.hex()}")
        subaccount = int.from_bytes(key[ADDRESS_BYTES : ADDRESS_BYTES + 2], "big")
        account = state.accounts.account(key[:ADDRESS_BYTES], subaccount)
        asset = int.from_bytes(key[ADDRESS_BYTES + 2 :], "big")
        if asset >= len(state.genesis.assets):
            raise Malformed(f"a balance of the unknown asset {asset}")
        balance = account.balance(asset)
        balance.free = amount_from_bytes(value[:AMOUNT_BYTES])
        balance.held = amount_from_bytes(value[AMOUNT_BYTES:])


def _load_orders(state: State, entries: list[tuple[bytes, bytes]]) -> None:
    """Put the resting orders back, oldest first."""
    records = [_read(value, OrderRecord) for _, value in entries]
    records.sort(key=lambda record: record.sequence)
    for record in records:
        market = state.markets[record.market]
        account = state.accounts.account(record.account, record.subaccount)
        order = restored_order(record, account, market.spec)
        order.is_stored = True
        market.book.add(order)
        state.open_orders.opened(order)
    for market in state.market_list:
        market.book.touched.clear()


def _load_markets(state: State, entries: list[tuple[bytes, bytes]]) -> None:
    for key, value in entries:
        market = state.market_list[int.from_bytes(key, "big")]
        record = _read(value, MarketRecord)
        market.sequence = record.sequence
        market.trades = record.trades
        market.last_price = record.last_price
