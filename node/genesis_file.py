"""Reading a genesis file, bounded."""

from __future__ import annotations

from pathlib import Path

from omninode.dex.genesis import Genesis, parse_genesis
from omninode.dex.limits import GENESIS_BYTES_MAX
from omninode.errors import ConfigError


def read_genesis(path: Path) -> Genesis:
    """Read and check a genesis file.

    Raises:
        ConfigError: It is missing, unreadable, too large or wrong; the message names the place.
    """
    try:
        with path.open("rb") as source:
            data = source.read(GENESIS_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return parse_genesis(data, source=str(path))
