"""What a devnet is to be, decided before anything of it is written: nodes, ports, chain.

Rules
    Y1. Impossible options, options that contradict the devnet that is there, ports that two of its
        processes would have, and a chain that is no development chain are wrong usage.
    Y2. A port that somebody else has is refused while everything on disk is still as it was.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from omninode.errors import ConfigError, UserError
from omninode.node.devnet import accounts
from omninode.node.devnet.chain_place import ChainPlace, check_chain_id, choose_chain
from omninode.node.devnet.limits import (
    CHAIN_PORT_BELOW,
    PORTS_DEADLINE_S,
    PORTS_PER_NODE,
    PORTS_USED,
    VALIDATORS_MAX,
)

VALIDATORS_DEFAULT: Final = 4
SEED_DEFAULT: Final = 1
BASE_PORT_DEFAULT: Final = 36650

_PORT_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What the caller asks for; `None` means what is there, else the default."""

    validators: int | None = None
    seed: int | None = None
    base_port: int | None = None
    chain: str | None = None
    chain_port: int | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """What a devnet is, apart from its secrets and its genesis."""

    validators: int
    seed: int
    base_port: int
    chain: ChainPlace

    def ports(self) -> Iterator[tuple[int, str]]:
        """Yield the ports that this devnet opens, each with who will have it."""
        if self.chain.port is not None:
            yield self.chain.port, "the settlement chain"
        for index in range(self.validators):
            first = self.base_port + PORTS_PER_NODE * index
            for port in range(first, first + PORTS_USED):
                yield port, f"node{index}"


def new_layout(options: WorldOptions) -> Layout:
    """Return what a new devnet is to be; asks a chain that runs already who it is.

    Raises:
        ConfigError: Y1.
        UserError: The chain at the URL does not answer properly, or its deployer has no coins.
    """
    _check_options(options)
    seed = SEED_DEFAULT if options.seed is None else options.seed
    base_port = options.base_port or BASE_PORT_DEFAULT
    chain = choose_chain(
        options.chain or "embedded",
        port=options.chain_port or base_port - CHAIN_PORT_BELOW,
        deployer=accounts.derive_key(seed, accounts.DEPLOYER).address,
    )
    layout = Layout(options.validators or VALIDATORS_DEFAULT, seed, base_port, chain)
    _check_apart(layout)
    return layout


def changed_layout(options: WorldOptions, known: Layout, folder: Path) -> Layout:
    """Return what the devnet that is there is to be from now on: only ports may change.

    Raises:
        ConfigError: Y1.
    """
    _check_options(options)
    for name, wanted, there in (
        ("validators", options.validators, known.validators),
        ("seed", options.seed, known.seed),
        ("chain", options.chain, _chosen(known.chain)),
    ):
        if wanted is not None and wanted != there:
            raise ConfigError(
                f"--{name} {wanted}: the devnet in {folder} was made with {there}",
                hint="leave the option out to go on with it, or add --reset to start anew",
            )
    check_chain_id(known.chain.chain_id)
    base_port = options.base_port or known.base_port
    chain = known.chain
    if chain.is_ours:
        moved = base_port - CHAIN_PORT_BELOW if options.base_port else chain.port
        chain = replace(chain, url=f"http://127.0.0.1:{options.chain_port or moved}")
    layout = replace(known, base_port=base_port, chain=chain)
    _check_apart(layout)
    return layout


def _chosen(chain: ChainPlace) -> str:
    """Return what `--chain` was."""
    return chain.url if chain.kind == "url" else chain.kind


def _check_options(options: WorldOptions) -> None:
    if options.validators is not None and not 1 <= options.validators <= VALIDATORS_MAX:
        raise ConfigError(f"--validators {options.validators}: expected 1 to {VALIDATORS_MAX}")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise ConfigError(f"--seed {options.seed}: expected 0 to 2**63 - 1")
    last = (options.validators or VALIDATORS_DEFAULT) * PORTS_PER_NODE
    base = options.base_port
    least = 1_024 + CHAIN_PORT_BELOW
    if base is not None and not least <= base <= 65_535 - last:
        raise ConfigError(f"--base-port {base}: expected {least} to {65_535 - last}")
    port = options.chain_port
    if port is not None and not 1_024 <= port <= 65_535:
        raise ConfigError(f"--chain-port {port}: expected 1024 to 65535")


def _check_apart(layout: Layout) -> None:
    """Refuse a port that the chain and a validator would both have."""
    for port, name in layout.ports():
        if port == layout.chain.port and name.startswith("node"):
            raise ConfigError(
                f"--chain-port {port}: {name} has this port",
                hint=f"node i has the first {PORTS_USED} ports from --base-port + "
                f"{PORTS_PER_NODE}·i; choose another",
            )
        if port > 65_535:
            raise ConfigError(f"--base-port {layout.base_port}: {name} would have port {port}")


def check_ports(layout: Layout) -> None:
    """Refuse ports that somebody else has, before any validator trips over them (Y2).

    Systems lend such ports to outgoing connections, too; those are gone in a moment.

    Raises:
        UserError: `port_in_use`.
    """
    deadline_s = time.monotonic() + PORTS_DEADLINE_S
    for port, name in layout.ports():
        while not _is_free(port):
            if time.monotonic() > deadline_s:
                raise UserError(
                    "port_in_use",
                    f"port {port}, for {name}, is in use",
                    hint="stop who uses it, or choose others with --base-port",
                )
            time.sleep(_PORT_POLL_S)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
