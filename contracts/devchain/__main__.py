"""`python -m omninode.contracts.devchain --home DIR --port PORT`: the dev chain as a program."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import structlog

from omninode.contracts.devchain.program import run_program
from omninode.contracts.devchain.service import (
    BLOCK_INTERVAL_MS,
    CHAIN_ID,
    GAS_LIMIT,
    ChainSettings,
)
from omninode.errors import ConfigError, StorageFault


def main(arguments: list[str] | None = None) -> int:
    """Run a dev chain until SIGTERM or SIGINT; return the exit code.

    Args:
        arguments: The command line after the program's name, by default the process's own.
    """
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        run_program(_settings(arguments), on_listening=_tell)
    except (ConfigError, StorageFault) as error:
        return _complain(error)
    return 0


def _settings(arguments: list[str] | None) -> ChainSettings:
    parser = argparse.ArgumentParser(prog="omninode chain", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--chain-id", type=int, default=CHAIN_ID)
    parser.add_argument("--block-interval-ms", type=int, default=BLOCK_INTERVAL_MS)
    parser.add_argument("--gas-limit", type=int, default=GAS_LIMIT)
    parser.add_argument("--alloc", type=Path, help="JSON: wei as text or number by address")
    given = parser.parse_args(arguments)
    return ChainSettings(
        home=given.home,
        host=given.host,
        port=given.port,
        chain_id=given.chain_id,
        block_interval_ms=given.block_interval_ms,
        gas_limit=given.gas_limit,
        alloc=None if given.alloc is None else _read_alloc(given.alloc),
    )


def _read_alloc(path: Path) -> dict[str, int]:
    """Read the balances of the first block.

    Raises:
        ConfigError: The file can not be read, or is not what is wanted.
    """
    try:
        content = json.loads(path.read_text())
        return {str(address): int(wei) for address, wei in content.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path}: {error}", hint='{"0x…": "1000000000000000000"}') from None


def _tell(url: str) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _complain(error: ConfigError | StorageFault) -> int:
    """Say what went wrong in one line and return the exit code."""
    hint = error.hint if isinstance(error, ConfigError) else ""
    sys.stderr.write(f"error: {error}{f'. {hint}' if hint else ''}\n")
    return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
