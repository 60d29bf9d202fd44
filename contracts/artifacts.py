"""The compiled contracts, as `./dev contracts` builds them from `src/` and compares byte by byte.

Committed, so that running a node or a devnet needs neither a compiler nor Node.js.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec


class ImmutableReference(msgspec.Struct, frozen=True):
    """Where the constructor writes an immutable value into the code.

    Attributes:
        start: First byte.
        length: Number of bytes.
    """

    start: int
    length: int


class Artifact(msgspec.Struct, frozen=True):
    """One compiled contract.

    Attributes:
        name: The contract's name.
        abi: Its functions, events and errors, as the compiler describes them in JSON.
        bytecode: What a transaction that creates it carries, without constructor arguments.
        deployed_bytecode: The code on the chain, with zeros for immutable values.
        immutable_references: Where these values go.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: bytes
    deployed_bytecode: bytes
    immutable_references: tuple[ImmutableReference, ...]

    def matches(self, code: bytes) -> bool:
        """Tell whether code found on a chain is this contract, whatever its immutable values."""
        if len(code) != len(self.deployed_bytecode):
            return False
        masked = bytearray(code)
        for reference in self.immutable_references:
            end = reference.start + reference.length
            masked[reference.start : end] = bytes(reference.length)
        return bytes(masked) == self.deployed_bytecode


class _Document(msgspec.Struct, rename="camel"):
    contract: str
    abi: list[dict[str, Any]]
    bytecode: str
    deployed_bytecode: str
    immutable_references: tuple[ImmutableReference, ...]


@cache
def load_artifact(name: str) -> Artifact:
    """Read a contract's artifact: "Settlement", "XOM" or "TestToken".

    Raises:
        FileNotFoundError: If there is no such contract.
    """
    path = files("omninode.contracts") / "artifacts" / f"{name}.json"
    document = msgspec.json.decode(path.read_bytes(), type=_Document)
    return Artifact(
        name=document.contract,
        abi=document.abi,
        bytecode=bytes.fromhex(document.bytecode[2:]),
        deployed_bytecode=bytes.fromhex(document.deployed_bytecode[2:]),
        immutable_references=document.immutable_references,
    )
