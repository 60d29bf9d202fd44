"""Events and statements of validators as JSON-ready documents; amounts are in base units."""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import msgspec

from omninode.crypto import ADDRESS_BYTES, checksum_address
from omninode.dex.staking.events import (
    EpochBegan,
    EpochEnded,
    Rewarded,
    Slashed,
    StakeChanged,
    StakeRefused,
    StakeReleased,
    ValidatorChanged,
)
from omninode.encoding import AMOUNT_BYTES, amount_from_bytes

StakingEvent: TypeAlias = (
    StakeChanged
    | StakeRefused
    | StakeReleased
    | ValidatorChanged
    | Slashed
    | Rewarded
    | EpochEnded
    | EpochBegan
)
_AMOUNTS: Final = frozenset({"amount", "stake", "inflation"})


def staking_document(event: StakingEvent) -> dict[str, Any]:
    """Return an event under its own names; an amount `x` as `x_units`, in text."""
    document: dict[str, Any] = {"event": type(event).__struct_config__.tag}
    for name, value in msgspec.structs.asdict(event).items():
        if name in _AMOUNTS:
            assert len(value) == AMOUNT_BYTES
            document[f"{name}_units"] = str(amount_from_bytes(value))
        else:
            document[name] = plain(value)
    return document


def plain(value: Any) -> Any:  # noqa: ANN401 - any field of a record
    """Return a field as JSON has it: addresses with their checksum, other bytes as 0x hex."""
    if isinstance(value, bytes):
        return checksum_address(value) if len(value) == ADDRESS_BYTES else "0x" + value.hex()
    if isinstance(value, msgspec.Struct):
        return {name: plain(field) for name, field in msgspec.structs.asdict(value).items()}
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value
