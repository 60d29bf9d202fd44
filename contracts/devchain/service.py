"""The dev chain as one task: storage, miner and server, started and stopped together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
import trio
from eth_utils import is_address, to_normalized_address

from omninode.contracts.devchain.chain import Chain, Genesis
from omninode.contracts.devchain.envelope import answer
from omninode.contracts.devchain.http_server import HttpServer
from omninode.contracts.devchain.methods import Methods
from omninode.contracts.devchain.miner import Miner
from omninode.contracts.devchain.store import Store
from omninode.errors import ConfigError

CHAIN_ID: Final = 31337
"""The chain id that everybody takes for a development chain."""

GAS_LIMIT: Final = 30_000_000
BLOCK_INTERVAL_MS: Final = 1_000
_INTERVAL_MS_MIN: Final = 10
_PORT_MAX: Final = 65_535

_log = structlog.get_logger("devchain")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """What a dev chain is started with.

    Args:
        home: Its folder; one process at a time.
        host: Address or name to listen on.
        port: TCP port, 0 for any free one.
        chain_id: Its number.
        block_interval_ms: Time from block to block; blocks are made empty as well.
        alloc: Wei by address in the first block; `None` for what the folder's chain began with.
        gas_limit: Gas of a block.
    """

    home: Path
    host: str = "127.0.0.1"
    port: int = 8545
    chain_id: int = CHAIN_ID
    block_interval_ms: int = BLOCK_INTERVAL_MS
    alloc: Mapping[str, int] | None = None
    gas_limit: int = GAS_LIMIT


async def run_chain(
    settings: ChainSettings,
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a dev chain until cancelled; reports its URL when it answers.

    Raises:
        ConfigError: A setting is wrong, the port is taken, or the folder's chain began with
            something else.
        StorageFault: The folder is in use or damaged, or the disk failed.
    """
    genesis = _genesis(settings)
    store = Store.open(settings.home / "evm")
    try:
        chain = Chain.open(store, genesis)
        miner = Miner(chain, interval_ms=settings.block_interval_ms)
        methods = Methods(chain, miner)

        async def handle(body: bytes, from_page: bool) -> bytes | None:  # noqa: FBT001 - a Handler
            return await answer(body, lambda *call: methods.run(*call, from_page=from_page))

        server = HttpServer(handle, host=settings.host, port=settings.port)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(server.run)
            _log.info("listening", host=settings.host, port=port, head=chain.head.number)
            task_status.started(f"http://{settings.host}:{port}")
            nursery.start_soon(miner.run)
    finally:
        store.close()


def _genesis(settings: ChainSettings) -> Genesis:
    """Check the settings and return what the chain begins with."""
    if settings.block_interval_ms < _INTERVAL_MS_MIN:
        raise ConfigError(f"the block interval must be at least {_INTERVAL_MS_MIN} ms")
    if not 0 <= settings.port <= _PORT_MAX:  # the system would take it modulo 65536
        raise ConfigError(f"the port must be a number from 0 to {_PORT_MAX}")
    if not 0 < settings.chain_id < 2**53:
        raise ConfigError("the chain id must be a number from 1 to 2^53 - 1")
    alloc: dict[str, int] | None = None
    if settings.alloc is not None:
        alloc = {}
        for address, wei in settings.alloc.items():
            if not is_address(address) or not 0 <= wei < 2**128:
                raise ConfigError(f"alloc: {address!r} is no address, or its balance is no amount")
            alloc[to_normalized_address(address)] = wei
    return Genesis(chain_id=settings.chain_id, gas_limit=settings.gas_limit, alloc=alloc)
