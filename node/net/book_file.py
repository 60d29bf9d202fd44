"""The address book and the bans on disk, as JSON that people can read.

Rules
    B1. The file is replaced as a whole (a new file, synced, renamed), so it is never half written.
    B2. It saves time and is never needed: a file that can not be read is put aside with a warning,
        one that can not be written is reported, and the node goes on.
    B3. What is read is checked like what a stranger says, since files are copied around.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from omninode.errors import Malformed
from omninode.node.net.book import BookEntry
from omninode.node.net.identity import is_peer_id
from omninode.node.net.limits import (
    BOOK_ADDRESSES_PER_PEER_MAX,
    BOOK_FILE_BYTES_MAX,
    BOOK_PEERS_MAX,
    PEERS_REMEMBERED_MAX,
)
from omninode.node.net.peers import Ban
from omninode.node.net.places import is_ip
from omninode.node.net.settings import TcpAddress

FORMAT: Final = 1


class _Address(msgspec.Struct, forbid_unknown_fields=True):
    peer_id: str
    host: str
    port: int
    reached_ms: int
    failures: int


class _Ban(msgspec.Struct, forbid_unknown_fields=True):
    peer_id: str
    until_ms: int
    reason: str
    count: int


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    network: str
    addresses: list[_Address]
    bans: list[_Ban]


Remembered = tuple[list[BookEntry], list[Ban]]


def encode_book(network_tag: str, entries: Sequence[BookEntry], bans: Sequence[Ban]) -> bytes:
    """Return the content of the file; only what was reached is kept (K1 of `book`)."""
    addresses = [
        _Address(e.address.peer_id, e.address.host, e.address.port, e.reached_ms, e.failures)
        for e in entries
        if e.reached_ms
    ]
    kept = [_Ban(ban.peer, ban.until_ms, ban.reason, ban.count) for ban in bans]
    text = msgspec.json.encode(_File(FORMAT, network_tag, addresses, kept))
    return msgspec.json.format(text, indent=1) + b"\n"


def decode_book(data: bytes, network_tag: str) -> Remembered:
    """Read the content of the file (B3).

    Raises:
        Malformed: It is none, or of another network.
    """
    try:
        file = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Malformed(str(error)) from None
    if file.format != FORMAT or file.network != network_tag:
        raise Malformed("of another format or network")
    entries = [
        BookEntry(TcpAddress(a.host, a.port, a.peer_id), max(0, a.reached_ms), max(0, a.failures))
        for a in file.addresses[: BOOK_PEERS_MAX * BOOK_ADDRESSES_PER_PEER_MAX]
        if is_peer_id(a.peer_id) and is_ip(a.host) and 0 < a.port < 1 << 16
    ]
    bans = [
        Ban(ban.peer_id, ban.until_ms, ban.reason[:200], max(1, ban.count))
        for ban in file.bans[:PEERS_REMEMBERED_MAX]
        if is_peer_id(ban.peer_id) and ban.reason.isprintable()
    ]
    return entries, bans


def read_book(path: Path, network_tag: str) -> Remembered:
    """Read the file; nothing if there is none.

    Raises:
        Malformed: It is unusable; it was put aside (B2).
    """
    try:
        if path.stat().st_size > BOOK_FILE_BYTES_MAX:
            raise Malformed("too long")
        return decode_book(path.read_bytes(), network_tag)
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise Malformed(error.strerror or repr(error)) from None
    except Malformed:
        with suppress(OSError):
            path.replace(path.with_suffix(".unusable"))
        raise


def write_book(path: Path, content: bytes) -> None:
    """Replace the file (B1).

    Raises:
        OSError: The disk is full or failed.
    """
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    fresh.replace(path)
