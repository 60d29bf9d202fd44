"""Validators with keys, their signatures and their trees, for tests of the settlement contract.

Formats come from `tests/vectors/make_settlement.py`, which knows nothing of OmniNode's own code.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

from eth_abi.abi import encode
from eth_keys.datatypes import PrivateKey
from eth_utils.crypto import keccak

EPOCH = 4
POWER = 10**18


def load_formats() -> ModuleType:
    path = Path(__file__).parent / "vectors" / "make_settlement.py"
    spec = importlib.util.spec_from_file_location("make_settlement", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


formats = load_formats()


class Signers:
    """Validators of equal power."""

    def __init__(self, count: int) -> None:
        self.keys = [PrivateKey(keccak(b"signer %d" % i)) for i in range(count)]
        self.words = [
            key.public_key.to_canonical_address() + POWER.to_bytes(12) for key in self.keys
        ]
        self.quorum = 2 * count // 3 + 1

    def set_hash(self, epoch: int) -> bytes:
        return keccak(encode(["uint64", "bytes32[]"], [epoch, self.words]))

    def sign(self, digest: bytes, count: int) -> tuple[list[bytes], int, bytes]:
        """The last three arguments of `submitCheckpoint`, signed by the first `count`."""
        compact = b""
        for key in self.keys[:count]:
            signed = key.sign_msg_hash(digest)
            compact += signed.r.to_bytes(32) + (signed.s | signed.v << 255).to_bytes(32)
        return self.words, 2**count - 1, compact


def checkpoint(number: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "number": number,
        "epoch": EPOCH,
        "height": 1_000_000 + number,
        "timeMs": 1_790_000_000_000 + 1_000 * number,
        "stateRoot": keccak(b"state %d" % number),
        "withdrawalRoot": bytes(32),
        "withdrawalCount": 0,
        "feeRoot": keccak(b"fees %d" % number),
        "depositCount": 0,
        "depositHash": formats.GENESIS_HASH,
    }
    assert changes.keys() <= values.keys()
    return {**values, **changes}


def as_argument(values: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(values[name] for name, _ in formats.FIELDS)


def digest_for(contract: bytes, values: dict[str, Any]) -> bytes:
    """The digest of a checkpoint for a contract at another address than the vectors'."""
    place = "0x" + contract.hex()
    digest: bytes = formats.digest_of("Checkpoint", formats.FIELDS, values, place)
    return digest
