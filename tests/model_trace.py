"""Reads traces of the specification (docs/spec): ITF, the trace format of Quint and Apalache."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPEC = Path(__file__).resolve().parent.parent / "docs" / "spec"


@dataclass(frozen=True)
class Network:
    """The constants of one module of `models.qnt` or `scenarios.qnt`."""

    powers: list[list[int]]
    byzantine: frozenset[int]
    epoch_blocks: int

    @property
    def honest(self) -> list[int]:
        return [i for i in range(len(self.powers[0])) if i not in self.byzantine]

    def members(self, epoch: int) -> list[int]:
        """Return the validators of an epoch, in the order of their indices in its set."""
        return [i for i, power in enumerate(self.powers[epoch]) if power > 0]


@dataclass(frozen=True, order=True)
class Ballot:
    """What a vote or certificate says. `block` is a number; -1 in a nullify vote."""

    kind: str
    epoch: int
    view: int
    block: int


@dataclass(frozen=True)
class State:
    """One state of a trace, with plain Python values."""

    blocks: dict[int, dict[str, Any]]
    nodes: dict[int, dict[str, Any]]
    votes: dict[Ballot, frozenset[int]]
    draws: dict[int, int]
    event: dict[str, Any]


def network(model: str) -> Network:
    """Read a module's constants."""
    text = "".join((SPEC / name).read_text() for name in ("models.qnt", "scenarios.qnt"))
    found = re.search(rf"module {model} \{{(.*?)\n\}}", text, re.DOTALL)
    assert found is not None, f"no module {model}"
    constants = found[1]

    def constant(pattern: str) -> Any:
        value = re.search(pattern, constants)
        assert value is not None
        return json.loads(f"[{value[1]}]")

    return Network(
        powers=constant(r"POWERS = \[(\[.*?\])\]"),
        byzantine=frozenset(constant(r"BYZANTINE = Set\((.*?)\)")),
        epoch_blocks=constant(r"EPOCH_BLOCKS = (\d+)")[0],
    )


def states(path: Path) -> Iterator[State]:
    """Read a trace, packed or not."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for raw in json.loads(data)["states"]:
        values = {
            name.rsplit("::", 1)[-1]: _plain(value) for name, value in raw.items() if name[0] != "#"
        }
        values.pop("known")
        yield State(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "#bigint" in value:
        return int(value["#bigint"])
    if "#set" in value:
        return frozenset(_hashable(_plain(item)) for item in value["#set"])
    if "#map" in value:
        return {_hashable(_plain(key)): _plain(item) for key, item in value["#map"]}
    record = {key: _plain(item) for key, item in value.items()}
    return Ballot(**record) if set(record) == set(Ballot.__dataclass_fields__) else record


def _hashable(value: Any) -> Any:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
