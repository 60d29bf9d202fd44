"""All methods of the interface, by name."""

from __future__ import annotations

from types import MappingProxyType, ModuleType
from typing import Any, Final

from omninode.node.rpc.methods import (
    accounts,
    blocks,
    discover,
    epochs,
    ethereum,
    markets,
    settlement,
    streams,
    transactions,
    validators,
)
from omninode.node.rpc.methods import node as node_methods
from omninode.node.rpc.registry import Method

_MODULES: Final[tuple[ModuleType, ...]] = (
    node_methods,
    validators,
    blocks,
    transactions,
    markets,
    accounts,
    settlement,
    epochs,
    streams,
    discover,
    ethereum,
)


def _methods_of(module: ModuleType) -> list[Method[Any]]:
    """Return the methods that a module defines, in its order."""
    single = [value for value in vars(module).values() if isinstance(value, Method)]
    return [*single, *getattr(module, "FORWARDED", ())]


METHODS: Final[MappingProxyType[str, Method[Any]]] = MappingProxyType(
    {entry.name: entry for module in _MODULES for entry in _methods_of(module)}
)
"""What is served; a name is on one method only."""

assert len(METHODS) == sum(len(_methods_of(module)) for module in _MODULES)
