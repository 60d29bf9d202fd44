"""Bare private keys, which people bring from other wallets: 32 bytes as hex text in a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from omninode.crypto import GROUP_ORDER, SigningKey
from omninode.errors import ConfigError

TEXT_BYTES_MAX: Final = 65_536
STDIN: Final = "-"
_HEX_KEY = re.compile(r"(0x)?[0-9a-fA-F]{64}")


def read_text(file: Path) -> str:
    """Return the text of a small file, or of stdin if the file is `-`.

    Raises:
        ConfigError: It can not be read, is too large or is not text.
    """
    try:
        if str(file) == STDIN:
            data = sys.stdin.buffer.read(TEXT_BYTES_MAX + 1)
        else:
            with file.open("rb") as source:
                data = source.read(TEXT_BYTES_MAX + 1)
        text = data.decode()
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{file}: not text") from None
    if len(data) > TEXT_BYTES_MAX:
        raise ConfigError(f"{file}: larger than {TEXT_BYTES_MAX} bytes, not a key")
    return text


def looks_like_private_key(text: str) -> bool:
    """Whether the text is a private key in hex rather than a keystore."""
    return _HEX_KEY.fullmatch(text.strip()) is not None


def parse_private_key(text: str) -> SigningKey:
    """Read a private key.

    Raises:
        ConfigError: It is not 32 bytes of hex between 1 and the group's order. The text is never
            shown.
    """
    stripped = text.strip()
    if not looks_like_private_key(stripped):
        raise ConfigError("not a private key: expected 64 hex digits")
    secret = bytes.fromhex(stripped.removeprefix("0x"))
    if not 0 < int.from_bytes(secret, "big") < GROUP_ORDER:
        raise ConfigError("not a private key: outside of the group")
    return SigningKey(secret)
