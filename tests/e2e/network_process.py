"""One network in a process of its own; says once a tenth of a second what it sees.

Usage: network_process.py SETTINGS, a JSON object: seed, port, peers, validators.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import structlog
import trio

from omninode.node.net.identity import NodeIdentity
from omninode.node.net.service import Network
from omninode.node.net.settings import NetworkSettings, Plane

TICK_S = 0.1


async def main(told: dict[str, Any]) -> None:
    settings = NetworkSettings(
        listen=(f"/ip4/127.0.0.1/tcp/{told['port']}",),
        network_tag="ab" * 32,
        persistent_peers=tuple(told["peers"]),
        validator_peers=frozenset(told["validators"]),
        ping_interval_ms=300,
        ping_timeout_ms=1_000,
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    network = Network(
        settings, NodeIdentity.from_seed(bytes.fromhex(told["seed"])), log=structlog.get_logger()
    )
    heard: dict[str, int] = {}

    async def hear(peer: str, _frame: bytes) -> None:
        heard[peer] = heard.get(peer, 0) + 1

    network.on_frame(Plane.VOTE, hear)
    network.on_frame(Plane.DATA, hear)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        while True:
            network.broadcast(Plane.VOTE, b"tick")
            linked = {info.id: len(info.planes) for info in network.peers()}
            seen = {
                "connected": network.connected_peers(),
                "linked": linked,
                "heard": heard,
                "errors": {info.id: info.last_error for info in network.peers()},
            }
            sys.stdout.write(json.dumps(seen) + "\n")
            sys.stdout.flush()
            await trio.sleep(TICK_S)


if __name__ == "__main__":
    trio.run(main, json.loads(sys.argv[1]))
