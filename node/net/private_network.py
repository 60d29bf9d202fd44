"""Private networks: everything on a connection is encrypted with a key that its members share.

Rules
    P1. The scheme is libp2p's "pnet": each side sends 24 random bytes, then its bytes XORed with
        XSalsa20 of the shared key and that nonce. It hides who talks and keeps others out before
        the handshake; who a peer is, and that nothing was changed, Noise sees to.
    P2. The first bytes from a member are always the same. Others than these mean another key: the
        connection ends at once, and the log says why.
    P3. The key file is the usual `swarm.key`, readable by its owner only.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from pathlib import Path
from typing import Final

from Crypto.Cipher import Salsa20

from omninode.errors import ConfigError

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 24
FILE_BYTES_MAX: Final = 1_024
"""A longer key file is refused unread."""

_HEAD: Final = "/key/swarm/psk/1.0.0/\n/base16/\n"
_FILE: Final = re.compile(re.escape(_HEAD) + r"([0-9a-fA-F]{64})\n?")
_FIRST_BYTES: Final = b"\x13/multistream/"
_CONSTANTS: Final = struct.unpack("<4I", b"expand 32-byte k")
_ROUNDS: Final = 10


class KeyMismatch(Exception):
    """The other end of a connection has another key, or none (P2)."""


class PrivateChannel:
    """Encrypts and decrypts one connection (P1).

    Args:
        key: The shared 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key
        nonce = os.urandom(NONCE_BYTES)
        self._unsent_nonce = nonce
        self._out = _xsalsa20(key, nonce)
        self._in: Salsa20.Salsa20Cipher | None = None
        self._start = b""
        self._is_proven = False

    def seal(self, data: bytes) -> bytes:
        """Return what to send for `data`."""
        nonce, self._unsent_nonce = self._unsent_nonce, b""
        return nonce + self._out.encrypt(data)

    def open(self, data: bytes) -> bytes:
        """Return what received bytes mean; empty while only the nonce has come.

        Raises:
            KeyMismatch: The other end has another key (P2).
        """
        if self._in is None:
            self._start += data
            if len(self._start) < NONCE_BYTES:
                return b""
            nonce, data = self._start[:NONCE_BYTES], self._start[NONCE_BYTES:]
            self._in, self._start = _xsalsa20(self._key, nonce), b""
        plain = self._in.decrypt(data)
        if not self._is_proven:
            self._start += plain[: len(_FIRST_BYTES)]
            if not (_FIRST_BYTES.startswith(self._start) or self._start.startswith(_FIRST_BYTES)):
                raise KeyMismatch
            self._is_proven = len(self._start) >= len(_FIRST_BYTES)
        return plain


def create_network_key(path: Path) -> None:
    """Write a new key to `path`, mode 0600 (P3).

    Raises:
        ConfigError: The file exists or can not be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{_HEAD}{os.urandom(KEY_BYTES).hex()}\n")
            file.flush()
            os.fsync(descriptor)
    except FileExistsError:
        raise ConfigError(
            f"{path} exists already", hint="a new key would shut out everybody who has the old one"
        ) from None
    except OSError as error:
        raise ConfigError(f"can not write {path}: {error.strerror}") from None


def load_network_key(path: Path) -> bytes:
    """Read a key file (P3).

    Raises:
        ConfigError: No such file, open to other users, or none of this kind.
    """
    try:
        mode = path.stat().st_mode
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(
            f"can not read the network's key {path}: {error.strerror}",
            hint="copy it from a member of the network, or make one: omninode keys new-psk",
        ) from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"{path} can be read by other users", hint=f"chmod 600 {path}")
    found = _FILE.fullmatch(data.decode("ascii", errors="replace").replace("\r\n", "\n"))
    if found is None:
        raise ConfigError(
            f"{path} is no libp2p network key", hint="it begins with /key/swarm/psk/1.0.0/"
        )
    return bytes.fromhex(found.group(1))


def _xsalsa20(key: bytes, nonce: bytes) -> Salsa20.Salsa20Cipher:
    """Return the cipher of a key and a nonce of 24 bytes."""
    return Salsa20.new(key=hsalsa20(key, nonce[:16]), nonce=nonce[16:])


def hsalsa20(key: bytes, nonce: bytes) -> bytes:
    """Derive the key of XSalsa20's inner cipher (D. J. Bernstein, "Extending the Salsa20 nonce").

    Args:
        key: 32 bytes.
        nonce: The first 16 bytes of the nonce.
    """
    k, n, c = struct.unpack("<8I", key), struct.unpack("<4I", nonce), _CONSTANTS
    x = [c[0], *k[:4], c[1], *n, c[2], *k[4:], c[3]]
    for _ in range(_ROUNDS):
        for a in range(0, 16, 5):
            _quarter(x, *((a + 4 * step) % 16 for step in range(4)))
        for row in range(4):
            base = 4 * row
            _quarter(x, *(base + (row + step) % 4 for step in range(4)))
    return struct.pack("<8I", x[0], x[5], x[10], x[15], x[6], x[7], x[8], x[9])


def _quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
    """Do Salsa20's quarter round on four words."""
    for target, first, second, turn in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
        word = (x[first] + x[second]) & 0xFFFF_FFFF
        x[target] ^= ((word << turn) | (word >> (32 - turn))) & 0xFFFF_FFFF
