"""The records of module `staking`: one byte for the kind, then what names the record.

| kind | rest of the key | value |
| --- | --- | --- |
| `e` | – | `EpochRecord` |
| `s` | – | the current `ValidatorSet` |
| `n` | – | the next one, from the cut to the sealing block |
| `v` | owner(20) | `Member` |
| `u` | number(8) | `Unbonding` |
| `t` | – | `TallyRecord` |
| `a` | epoch(8), auditor(20) | `AuditRecord` |
| `p` | auditor(20) | its probes in this epoch |
| `c` | owner(20) | `Conviction` |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, TypeVar

from omninode.consensus.types import ValidatorSet
from omninode.dex.hashing import Changes
from omninode.dex.limits import RECORD_BYTES_MAX
from omninode.dex.staking.audits import AuditRecord
from omninode.dex.staking.convictions import Conviction
from omninode.dex.staking.epochs import EpochRecord
from omninode.dex.staking.registry import Member
from omninode.dex.staking.tallies import TallyRecord
from omninode.dex.staking.unbonding import Unbonding
from omninode.encoding import decode, encode
from omninode.errors import Malformed

if TYPE_CHECKING:
    from omninode.dex.state import State

_EPOCH: Final = b"e"
_SET: Final = b"s"
_NEXT: Final = b"n"
_MEMBER: Final = b"v"
_UNBONDING: Final = b"u"
_TALLY: Final = b"t"
_AUDIT: Final = b"a"
_PROBES: Final = b"p"
_CONVICTION: Final = b"c"
_KINDS: Final = (
    _EPOCH, _SET, _NEXT, _MEMBER, _UNBONDING, _TALLY, _AUDIT, _PROBES, _CONVICTION,
)  # fmt: skip
_T = TypeVar("_T")


def take_staking(state: State) -> Changes:
    """Encode what changed since the last call, and begin to note changes anew."""
    staking = state.staking
    changes: Changes = []
    for owner in staking.registry.changed:
        changes.append((_MEMBER + owner, _or_none(staking.registry.of(owner))))
    for number in staking.unbondings.changed:
        changes.append(
            (_number(_UNBONDING, number), _or_none(staking.unbondings.parts.get(number)))
        )
    for key in staking.audits.changed:
        changes.append((_audit(key), _or_none(staking.audits.records.get(key))))
    for auditor in staking.audits.changed_probes:
        changes.append((_PROBES + auditor, _or_none(staking.audits.probes.get(auditor))))
    for owner in staking.convictions.changed:
        changes.append((_CONVICTION + owner, _or_none(staking.convictions.by_owner.get(owner))))
    epochs = staking.epochs
    if epochs.is_changed or staking.unbondings.changed:
        changes.append((_EPOCH, encode(epochs.record(staking.unbondings.count))))
    if epochs.is_set_changed:
        changes.append((_SET, encode(state.validator_set)))
        changes.append((_NEXT, _or_none(epochs.next_set)))
    if staking.tallies_changed:
        changes.append((_TALLY, encode(staking.tallies.record())))
    _clear(state)
    return changes


def _clear(state: State) -> None:
    staking = state.staking
    staking.registry.clear()
    staking.unbondings.changed.clear()
    staking.audits.changed.clear()
    staking.audits.changed_probes.clear()
    staking.convictions.changed.clear()
    staking.epochs.is_changed = staking.epochs.is_set_changed = False
    staking.tallies_changed = False


def staking_records(state: State) -> Iterator[tuple[bytes, bytes]]:
    """Encode the whole module, in no particular order."""
    staking = state.staking
    if not staking.is_on:
        return
    yield _EPOCH, encode(staking.epochs.record(staking.unbondings.count))
    yield _TALLY, encode(staking.tallies.record())
    if staking.epochs.number or staking.epochs.next_set is not None:
        yield _SET, encode(state.validator_set)
    if staking.epochs.next_set is not None:
        yield _NEXT, encode(staking.epochs.next_set)
    for member in staking.registry:
        yield _MEMBER + member.owner, encode(member)
    for number, part in staking.unbondings.parts.items():
        yield _number(_UNBONDING, number), encode(part)
    for key, record in staking.audits.records.items():
        yield _audit(key), encode(record)
    for auditor, probes in staking.audits.probes.items():
        yield _PROBES + auditor, encode(probes)
    for owner, conviction in staking.convictions.by_owner.items():
        yield _CONVICTION + owner, encode(conviction)


def load_staking(state: State, entries: Iterable[tuple[bytes, bytes]]) -> None:
    """Take the module back, and with it the current set; balances are loaded already.

    Raises:
        Malformed: A record that can not be read, or one that is missing.
    """
    kinds: dict[bytes, dict[bytes, bytes]] = {kind: {} for kind in _KINDS}
    for key, value in entries:
        kinds[key[:1]][key[1:]] = value
    staking = state.staking
    if not staking.is_on:
        if any(kinds.values()):
            raise Malformed("records of staking in a network without")
        return
    for value in kinds[_SET].values():
        state.validator_set = _read(value, ValidatorSet)
    next_set = [_read(value, ValidatorSet) for value in kinds[_NEXT].values()]
    epoch = _read(_single(kinds[_EPOCH]), EpochRecord)
    if state.validator_set.epoch != epoch.number:
        raise Malformed(f"the set of epoch {state.validator_set.epoch} in {epoch.number}")
    staking.epochs.load(epoch, next_set[0] if next_set else None)
    staking.tallies.load(_read(_single(kinds[_TALLY]), TallyRecord), state.validator_set)
    staking.registry.load(_read(value, Member) for _, value in sorted(kinds[_MEMBER].items()))
    staking.unbondings.load(
        (
            (int.from_bytes(key, "big"), _read(value, Unbonding))
            for key, value in kinds[_UNBONDING].items()
        ),
        epoch.unbonded,
    )
    for key, value in kinds[_AUDIT].items():
        record = _read(value, AuditRecord)
        staking.audits.records[int.from_bytes(key[:8], "big"), key[8:]] = record
    for key, value in kinds[_PROBES].items():
        staking.audits.probes[key] = _read(value, int)
    convictions = [_read(value, Conviction) for value in kinds[_CONVICTION].values()]
    for conviction in sorted(convictions, key=lambda c: (c.time_ms, c.owner)):
        staking.convictions.by_owner[conviction.owner] = conviction
    _clear(state)


def _single(entries: dict[bytes, bytes]) -> bytes:
    value = entries.get(b"")
    if value is None:
        raise Malformed("a record of staking is missing")
    return value


def _or_none(value: object) -> bytes | None:
    return None if value is None else encode(value)


def _number(kind: bytes, number: int) -> bytes:
    return kind + number.to_bytes(8, "big")


def _audit(key: tuple[int, bytes]) -> bytes:
    return _number(_AUDIT, key[0]) + key[1]


def _read(value: bytes, kind: type[_T]) -> _T:
    return decode(value, kind, size_max=RECORD_BYTES_MAX)
