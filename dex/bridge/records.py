"""The records of module `bridge`: one byte for the kind, then what names the record.

| kind | rest of the key | value |
| --- | --- | --- |
| `c` | – | the credited `Cursor` |
| `d` | rolling hash(32) | `PendingDeposit` |
| `t` | validator(20) | its `Tip` |
| `w` | – | `FrontierRecord`: the withdrawal tree |
| `m` | – | `MarkRecord`: the newest checkpoint made |
| `k` | number(8) | `PendingRecord`: a checkpoint that waits for signatures |
| `z` | – | the newest `CertifiedCheckpoint` |
| `f` | asset(2) | `FlowRecord` |
| `i` | a balance's key | index(8) of its leaf in the balance tree |
| `e` | – | `SettlementEpochRecord`; none while it is that of genesis |
| `h` | epoch(8) it leads to | `PendingHandoverRecord`: a handover that waits for signatures |
| `s` | owner(20) | number(8) of the first checkpoint that proves its slashed stake |
| `q` | epoch(8) it comes from | `CertifiedHandover` |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from omninode.consensus.types import Hash
from omninode.crypto import ADDRESS_BYTES
from omninode.dex.accounts import Balance
from omninode.dex.bridge.balance_tree import NO_LEAF
from omninode.dex.bridge.checkpoints import (
    CertifiedCheckpoint,
    Checkpoint,
    PendingCheckpoint,
)
from omninode.dex.bridge.deposits import Cursor, PendingDeposit, Tip
from omninode.dex.bridge.handover import (
    CertifiedHandover,
    Handover,
    Handovers,
    PendingHandover,
)
from omninode.dex.bridge.merkle import Peaks
from omninode.dex.bridge.state import Bridge, Flow
from omninode.dex.hashing import Changes
from omninode.dex.limits import RECORD_BYTES_MAX
from omninode.encoding import decode, encode
from omninode.errors import Malformed

if TYPE_CHECKING:
    from omninode.dex.state import State

_CREDITED: Final = b"c"
_DEPOSIT: Final = b"d"
_TIP: Final = b"t"
_FRONTIER: Final = b"w"
_MARK: Final = b"m"
_PENDING: Final = b"k"
_CERTIFIED: Final = b"z"
_FLOW: Final = b"f"
_LEAF: Final = b"i"
_EPOCH: Final = b"e"
_HANDOVER: Final = b"h"
_HANDED_OVER: Final = b"q"
_STAKE_DUE: Final = b"s"
_KINDS: Final = (
    _CREDITED, _DEPOSIT, _TIP, _FRONTIER, _MARK, _PENDING, _CERTIFIED, _FLOW, _LEAF,
    _EPOCH, _HANDOVER, _HANDED_OVER, _STAKE_DUE,
)  # fmt: skip

_FLOW_BYTES: Final = 32
"""A sum over years may pass 128 bits, though no balance does."""

_Sum = Annotated[bytes, msgspec.Meta(min_length=_FLOW_BYTES, max_length=_FLOW_BYTES)]
_T = TypeVar("_T")


class FrontierRecord(msgspec.Struct, frozen=True, array_like=True):
    """The withdrawal tree's size and the roots of its full subtrees, the largest first."""

    count: int
    peaks: tuple[Hash, ...]


class MarkRecord(msgspec.Struct, frozen=True, array_like=True):
    """Number and time of the newest checkpoint."""

    number: int
    time_ms: int


class PendingRecord(msgspec.Struct, frozen=True, array_like=True):
    """A checkpoint with the signatures it has, ascending by validator index."""

    checkpoint: Checkpoint
    signatures: tuple[tuple[int, bytes], ...]


class SettlementEpochRecord(msgspec.Struct, frozen=True, array_like=True):
    """The settlement epoch and its set in the contract's words."""

    epoch: int
    words: tuple[Hash, ...]


class PendingHandoverRecord(msgspec.Struct, frozen=True, array_like=True):
    """A handover with the signatures it has, ascending by the place of who signed."""

    handover: Handover
    signatures: tuple[tuple[int, bytes], ...]


class FlowRecord(msgspec.Struct, frozen=True, array_like=True):
    """What came in and went out of an asset since genesis, in base units."""

    credited: _Sum
    withdrawn: _Sum


def take_bridge(bridge: Bridge) -> Changes:
    """Encode what changed since the last call, and begin to note changes anew."""
    deposits, checkpoints = bridge.deposits, bridge.checkpoints
    changes: Changes = [
        (_DEPOSIT + node_hash, None if node is None else encode(node))
        for node_hash, node in deposits.changed_nodes.items()
    ]
    changes += [
        (_TIP + address, None if tip is None else encode(tip))
        for address, tip in deposits.changed_tips.items()
    ]
    for number in checkpoints.changed:
        pending = checkpoints.pending.get(number)
        changes.append((_pending_key(number), None if pending is None else _pending(pending)))
    changes += _handover_changes(bridge.handovers)
    for owner in bridge.stake_proofs.changed:
        first = bridge.stake_proofs.due.get(owner)
        changes.append((_STAKE_DUE + owner, None if first is None else first.to_bytes(8, "big")))
    changes += [_flow_entry(asset, bridge.flows[asset]) for asset in bridge.changed_flows]
    changes += [_leaf_entry(balance) for balance in bridge.balances.new]
    changes += _singles(
        bridge,
        credited=deposits.cursor_changed,
        frontier=bridge.withdrawals.changed,
        mark=checkpoints.made,
        certified=checkpoints.newly_certified,
    )
    bridge.clear()
    return changes


def bridge_records(state: State) -> Iterator[tuple[bytes, bytes]]:
    """Encode the whole module, in no particular order."""
    bridge = state.bridge
    deposits, checkpoints = bridge.deposits, bridge.checkpoints
    for node_hash, node in deposits.nodes.items():
        yield _DEPOSIT + node_hash, encode(node)
    for address, tip in deposits.tips.items():
        yield _TIP + address, encode(tip)
    for number, pending in checkpoints.pending.items():
        yield _pending_key(number), _pending(pending)
    yield from _handover_records(bridge.handovers)
    for staker, first in bridge.stake_proofs.due.items():
        yield _STAKE_DUE + staker, first.to_bytes(8, "big")
    for asset, flow in bridge.flows.items():
        yield _flow_entry(asset, flow)
    for owner in state.accounts.owners.values():
        for account in owner.subaccounts.values():
            for balance in account.balances.values():
                if balance.leaf != NO_LEAF:
                    yield _leaf_entry(balance)
    yield from _singles(
        bridge,
        credited=deposits.credited.count > 0,
        frontier=bridge.withdrawals.count > 0,
        mark=checkpoints.number > 0,
        certified=checkpoints.certified is not None,
    )


def load_bridge(state: State, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Take the module back; balances are loaded already.

    Raises:
        Malformed: A record that can not be read, or one that another contradicts.
    """
    kinds: dict[bytes, dict[bytes, bytes]] = {kind: {} for kind in _KINDS}
    for key, value in entries:
        kinds[key[:1]][key[1:]] = value
    bridge = state.bridge
    if not bridge.is_on:
        if any(kinds.values()):
            raise Malformed("records of a settlement in a network without")
        return
    credited = kinds[_CREDITED].get(b"")
    bridge.deposits.load(
        None if credited is None else _read(credited, Cursor),
        {key: _read(value, PendingDeposit) for key, value in kinds[_DEPOSIT].items()},
        {key: _read(value, Tip) for key, value in kinds[_TIP].items()},
    )
    if bridge.deposits.settle(state.validator_set):
        raise Malformed("a deposit with its quorum was not credited")
    for value in kinds[_FRONTIER].values():
        frontier = _read(value, FrontierRecord)
        bridge.withdrawals.tree = Peaks(frontier.count, frontier.peaks)
    _load_checkpoints(bridge, kinds)
    _load_handovers(bridge, kinds)
    bridge.stake_proofs.load(
        {owner: int.from_bytes(value, "big") for owner, value in kinds[_STAKE_DUE].items()}
    )
    for key, value in kinds[_FLOW].items():
        flow = _read(value, FlowRecord)
        bridge.flows[int.from_bytes(key, "big")] = Flow(
            int.from_bytes(flow.credited, "big"), int.from_bytes(flow.withdrawn, "big")
        )
    _load_leaves(state, kinds[_LEAF])
    bridge.clear()


def _load_checkpoints(bridge: Bridge, kinds: dict[bytes, dict[bytes, bytes]]) -> None:
    checkpoints = bridge.checkpoints
    for value in kinds[_MARK].values():
        mark = _read(value, MarkRecord)
        checkpoints.number, checkpoints.time_ms = mark.number, mark.time_ms
    for key, value in sorted(kinds[_PENDING].items()):
        record = _read(value, PendingRecord)
        checkpoints.pending[int.from_bytes(key, "big")] = PendingCheckpoint(
            record.checkpoint, bridge.domain, record.signatures
        )
    for value in kinds[_CERTIFIED].values():
        checkpoints.certified = _read(value, CertifiedCheckpoint)


def _load_handovers(bridge: Bridge, kinds: dict[bytes, dict[bytes, bytes]]) -> None:
    current = None
    for value in kinds[_EPOCH].values():
        record = _read(value, SettlementEpochRecord)
        current = record.epoch, record.words
    pending = {}
    for key, value in sorted(kinds[_HANDOVER].items()):
        waiting = _read(value, PendingHandoverRecord)
        pending[int.from_bytes(key, "big")] = PendingHandover(
            waiting.handover, bridge.domain, waiting.signatures
        )
    certified = {
        int.from_bytes(key, "big"): _read(value, CertifiedHandover)
        for key, value in sorted(kinds[_HANDED_OVER].items())
    }
    bridge.handovers.load(current, pending, certified)


def _handover_changes(handovers: Handovers) -> Changes:
    changes: Changes = []
    for epoch in handovers.changed:
        pending = handovers.pending.get(epoch)
        changes.append(
            (_epoch_key(_HANDOVER, epoch), None if pending is None else _pending_handover(pending))
        )
    for epoch in handovers.newly_certified:
        certified = handovers.certified.get(epoch)
        key = _epoch_key(_HANDED_OVER, epoch)
        changes.append((key, None if certified is None else encode(certified)))
    if handovers.moved:
        changes.append(_epoch_entry(handovers))
    return changes


def _handover_records(handovers: Handovers) -> Iterator[tuple[bytes, bytes]]:
    for epoch, pending in handovers.pending.items():
        yield _epoch_key(_HANDOVER, epoch), _pending_handover(pending)
    for epoch, certified in handovers.certified.items():
        yield _epoch_key(_HANDED_OVER, epoch), encode(certified)
    if not handovers.is_first:
        yield _epoch_entry(handovers)


def _epoch_entry(handovers: Handovers) -> tuple[bytes, bytes]:
    return _EPOCH, encode(SettlementEpochRecord(handovers.epoch, handovers.words))


def _epoch_key(kind: bytes, epoch: int) -> bytes:
    return kind + epoch.to_bytes(8, "big")


def _pending_handover(pending: PendingHandover) -> bytes:
    signatures = tuple(sorted(pending.signatures.items()))
    return encode(PendingHandoverRecord(pending.handover, signatures))


def _load_leaves(state: State, entries: dict[bytes, bytes]) -> None:
    """Find the balance of each leaf, and those that wait for theirs."""
    leaves: list[Balance | None] = [None] * len(entries)
    for key, value in entries.items():
        place = int.from_bytes(value, "big")
        subaccount = int.from_bytes(key[ADDRESS_BYTES : ADDRESS_BYTES + 2], "big")
        asset = int.from_bytes(key[ADDRESS_BYTES + 2 :], "big")
        if asset >= len(state.genesis.assets) or leaves[place] is not None:
            raise Malformed(f"leaf {place} of the balance tree")
        account = state.accounts.account(key[:ADDRESS_BYTES], subaccount)
        leaves[place] = account.balance(asset)
    known = [balance for balance in leaves if balance is not None]
    for index, balance in enumerate(known):
        balance.leaf = index
    leafless = [
        balance
        for owner in state.accounts.owners.values()
        for account in owner.subaccounts.values()
        for balance in account.balances.values()
        if balance.leaf == NO_LEAF
    ]
    state.bridge.balances.load(known, leafless)


def _singles(
    bridge: Bridge, *, credited: bool, frontier: bool, mark: bool, certified: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Encode the asked ones of the records that there is one of."""
    if credited:
        yield _CREDITED, encode(bridge.deposits.credited)
    if frontier:
        tree = bridge.withdrawals.tree
        yield _FRONTIER, encode(FrontierRecord(tree.count, tree.peaks))
    if mark:
        yield _MARK, encode(MarkRecord(bridge.checkpoints.number, bridge.checkpoints.time_ms))
    if certified:
        yield _CERTIFIED, encode(bridge.checkpoints.certified)


def _pending_key(number: int) -> bytes:
    return _PENDING + number.to_bytes(8, "big")


def _pending(pending: PendingCheckpoint) -> bytes:
    return encode(PendingRecord(pending.checkpoint, tuple(sorted(pending.signatures.items()))))


def _flow_entry(asset: int, flow: Flow) -> tuple[bytes, bytes]:
    record = FlowRecord(
        flow.credited.to_bytes(_FLOW_BYTES, "big"), flow.withdrawn.to_bytes(_FLOW_BYTES, "big")
    )
    return _FLOW + asset.to_bytes(2, "big"), encode(record)


def _leaf_entry(balance: Balance) -> tuple[bytes, bytes]:
    return _LEAF + balance.key, balance.leaf.to_bytes(8, "big")


def _read(value: bytes, kind: type[_T]) -> _T:
    return decode(value, kind, size_max=RECORD_BYTES_MAX)
