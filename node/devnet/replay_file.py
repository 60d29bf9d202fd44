"""Reading a recorded order flow: the shipped one, or another file in the same format."""

from __future__ import annotations

import zlib
from importlib.resources import files
from pathlib import Path
from typing import Final

from omninode.dex.replay import REPLAY_BYTES_MAX, Replay, parse_replay
from omninode.errors import ConfigError

SHIPPED_PACKAGE: Final = "omninode.configs.replay"
SHIPPED_FILE: Final = "bitstamp_btcusd_l3_180s.json.gz"


def read_replay(path: Path | None) -> Replay:
    """Read a recorded flow, compressed with gzip or not; `None` means the shipped one.

    Raises:
        ConfigError: It can not be read, or is none.
    """
    if path is None:
        source = SHIPPED_FILE
        data = (files(SHIPPED_PACKAGE) / SHIPPED_FILE).read_bytes()
    else:
        source = str(path)
        data = _read(path)
    if data[:2] == b"\x1f\x8b":
        data = _unpack(data, source)
    return parse_replay(data, source=source)


def _read(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            return file.read(REPLAY_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _unpack(data: bytes, source: str) -> bytes:
    """Decompress with a bound: a small file may claim to be a huge one."""
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        return unpacker.decompress(data, REPLAY_BYTES_MAX + 1)
    except zlib.error as error:
        raise ConfigError(f"{source}: not a gzip file: {error}") from None
