"""The world of a devnet on disk: genesis, node homes, keystores, `devnet.json`.

Rules
    W1. `devnet.json` is written last: a folder without it is unfinished and is made anew.
    W2. Nothing but what a devnet makes is ever removed; a folder with anything else is refused.
    W3. Started again, a devnet keeps its keys, its genesis and its chain. Only the ports may be
        chosen anew; the nodes' configurations are then written again.

```
HOME/node0 … nodeN-1      an ordinary node home each
HOME/accounts/            keystores of the accounts, and `password`
HOME/chain/               the settlement chain, if it is one of ours
HOME/devnet.json          URLs, chain ids, contracts, accounts
HOME/omninode.lock        held by the running devnet
```
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import Genesis
from omninode.errors import ConfigError, StorageFault, UserError
from omninode.node.config import NodeConfig
from omninode.node.devnet import accounts
from omninode.node.devnet.chain_place import FOLDER, ChainPlace, choose_chain
from omninode.node.devnet.deployment import Plan, plan_of
from omninode.node.devnet.genesis import devnet_genesis
from omninode.node.devnet.limits import (
    CHAIN_PORT_BELOW,
    PORTS_DEADLINE_S,
    PORTS_PER_NODE,
    PORTS_USED,
    VALIDATORS_MAX,
)
from omninode.node.devnet.node_place import DevnetNode
from omninode.node.genesis_file import read_genesis
from omninode.node.home import Home
from omninode.node.home_setup import create_keys, write_config, write_genesis
from omninode.node.keys.keystore import keystore_address, write_keystore
from omninode.node.keys.passwords import make_password_file
from omninode.node.net.identity import NodeIdentity

DEVNET_FILE: Final = "devnet.json"
ACCOUNTS_FOLDER: Final = "accounts"
PASSWORD_FILE: Final = "password"  # noqa: S105 - the name of a file

VALIDATORS_DEFAULT: Final = 4
SEED_DEFAULT: Final = 1
BASE_PORT_DEFAULT: Final = 36650

DELTA_MS: Final = 50
MIN_BLOCK_INTERVAL_MS: Final = 35
"""All validators share this machine: 20 ms makes so many blocks that two cores are busy and orders
wait for the processor, 50 ms makes them wait for the block."""

REQUESTS_PER_SECOND: Final = 1_000_000
"""Above any load of ours: all of it comes from one address."""

SETTLEMENT_POLL_MS: Final = 250
"""The chain makes a block a second: a deposit should not wait longer for being seen."""

_PORT_POLL_S: Final = 0.05

_OURS: Final = re.compile(r"node\d+|accounts|chain|devnet\.json(\.new)?|omninode\.lock")


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
class World:
    """A devnet that is ready to run."""

    home: Home
    genesis: Genesis
    seed: int
    base_port: int
    chain: ChainPlace
    nodes: tuple[DevnetNode, ...]
    keys: dict[str, SigningKey]
    is_new: bool

    @property
    def deployer(self) -> SigningKey:
        """The key that deploys the contracts."""
        return accounts.derive_key(self.seed, accounts.DEPLOYER)

    @property
    def chain_folder(self) -> Path:
        """Where a settlement chain of ours keeps itself."""
        return self.home.path / FOLDER

    @property
    def plan(self) -> Plan:
        """Where the contracts are."""
        return plan_of(self.genesis, self.deployer.address, self.chain.first_nonce)

    def relayers(self) -> list[bytes]:
        """Return the accounts that pay for the validators' checkpoints."""
        found = (keystore_address(node.home.relayer_keystore) for node in self.nodes)
        return [address for address in found if address is not None]


@contextmanager
def opened_world(
    home: Home, options: WorldOptions, *, step: Callable[[str], None]
) -> Iterator[World]:
    """Make the world of a devnet, or take the one that is there, and hold its lock.

    Args:
        home: The devnet's folder.
        options: What it is to be.
        step: Told what was done, for people.

    Raises:
        ConfigError: Impossible options, options that contradict the devnet that is there, or a
            folder that is none.
        UserError: `home_locked`, it is running; `port_in_use`.
        StorageFault: Something can not be written.
    """
    _check_options(options)
    _prepare_folder(home)
    with home.locked():
        known = None if options.reset else _read_document(home)
        if known is None:
            _remove(home)
            world = _make(home, options)
            step(f"made keys, genesis and accounts in {home.path}, validators: {len(world.nodes)}")
        else:
            world = _load(home, options, known)
            step(f"going on with what is in {home.path}, validators: {len(world.nodes)}")
        _check_ports(world)
        yield world


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


def _prepare_folder(home: Home) -> None:
    """Make the folder; refuse one that holds what no devnet made (W2)."""
    try:
        home.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFault(f"{error.filename}: {error.strerror}") from None
    foreign = [path.name for path in home.path.iterdir() if not _OURS.fullmatch(path.name)]
    if foreign:
        raise ConfigError(
            f"{home.path} is not a devnet's folder: it holds {', '.join(sorted(foreign)[:5])}",
            hint="name an empty or a new one with --home",
        )


@dataclass(frozen=True, slots=True)
class _Known:
    """What `devnet.json` says of a devnet that is there."""

    validators: int
    seed: int
    base_port: int
    chain: ChainPlace


def _read_document(home: Home) -> _Known | None:
    path = home.path / DEVNET_FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if "chain" not in document:
            raise ConfigError(
                f"the devnet in {home.path} has no settlement chain: an earlier version made it",
                hint="`omninode devnet --reset` makes a new devnet",
            )
        chain = msgspec.convert(
            {name: document["chain"][name] for name in ChainPlace.__dataclass_fields__}, ChainPlace
        )
        return _Known(
            int(document["validators"]), int(document["seed"]), int(document["base_port"]), chain
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise ConfigError(
            f"{path} can not be read", hint="`omninode devnet --reset` makes a new devnet"
        ) from None


def _remove(home: Home) -> None:
    """Remove what a devnet made, its document first (W1); the lock is held and stays."""
    (home.path / DEVNET_FILE).unlink(missing_ok=True)
    for path in home.path.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path != home.lock_file:
            path.unlink()


def _make(home: Home, options: WorldOptions) -> World:
    count = options.validators or VALIDATORS_DEFAULT
    seed = SEED_DEFAULT if options.seed is None else options.seed
    base_port = options.base_port or BASE_PORT_DEFAULT
    chain = choose_chain(
        options.chain or "embedded",
        port=options.chain_port or base_port - CHAIN_PORT_BELOW,
        deployer=accounts.derive_key(seed, accounts.DEPLOYER).address,
    )
    nodes = _nodes(home, count, base_port)
    identities = [create_keys(node.home, password=None, light=True) for node in nodes]
    keys = accounts.derive_keys(seed)
    time_ms = time.time_ns() // 1_000_000
    genesis = devnet_genesis(identities, keys, chain, seed=seed, time_ms=time_ms)
    text = genesis.to_json().decode()
    for node in nodes:
        write_genesis(node.home, text)
    _write_keystores(home, keys)
    world = World(home, genesis, seed, base_port, chain, nodes, keys, is_new=True)
    _write_configs(world, [identity.peer_id for identity in identities])
    _write_document(world)
    return world


def _load(home: Home, options: WorldOptions, known: _Known) -> World:
    for name, wanted, there in (
        ("validators", options.validators, known.validators),
        ("seed", options.seed, known.seed),
        ("chain", options.chain, _chosen(known.chain)),
    ):
        if wanted is not None and wanted != there:
            raise ConfigError(
                f"--{name} {wanted}: the devnet in {home.path} was made with {there}",
                hint="leave the option out to go on with it, or add --reset to start anew",
            )
    base_port = options.base_port or known.base_port
    chain = known.chain
    if chain.is_ours:
        moved = base_port - CHAIN_PORT_BELOW if options.base_port else chain.port
        chain = replace(chain, url=f"http://127.0.0.1:{options.chain_port or moved}")
    nodes = _nodes(home, known.validators, base_port)
    for node in nodes:
        node.home.require()
    genesis = read_genesis(nodes[0].home.genesis)
    keys = accounts.derive_keys(known.seed)
    world = World(home, genesis, known.seed, base_port, chain, nodes, keys, is_new=False)
    if base_port != known.base_port or chain != known.chain:  # W3
        _write_configs(world, [NodeIdentity.load(node.home.node_key).peer_id for node in nodes])
        _write_document(world)
    return world


def _chosen(chain: ChainPlace) -> str:
    """Return what `--chain` was."""
    return chain.url if chain.kind == "url" else chain.kind


def _check_ports(world: World) -> None:
    """Refuse ports that somebody else has, before any validator trips over them.

    Systems lend such ports to outgoing connections, too; those are gone in a moment.
    """
    deadline_s = time.monotonic() + PORTS_DEADLINE_S
    for port, name in _ports(world):
        while not _is_free(port):
            if time.monotonic() > deadline_s:
                raise UserError(
                    "port_in_use",
                    f"port {port}, for {name}, is in use",
                    hint="stop who uses it, or choose others with --base-port",
                )
            time.sleep(_PORT_POLL_S)


def _ports(world: World) -> Iterator[tuple[int, str]]:
    """Yield the ports that this devnet opens, each with who will have it."""
    if world.chain.port is not None:
        yield world.chain.port, "the settlement chain"
    for node in world.nodes:
        for port in range(node.p2p_port, node.p2p_port + PORTS_USED):
            yield port, node.moniker


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _nodes(home: Home, count: int, base_port: int) -> tuple[DevnetNode, ...]:
    return tuple(
        DevnetNode(index, Home(home.path / f"node{index}"), base_port) for index in range(count)
    )


def _address(key: SigningKey) -> str:
    return checksum_address(key.address)


def _write_keystores(home: Home, keys: dict[str, SigningKey]) -> None:
    folder = home.path / ACCOUNTS_FOLDER
    password = make_password_file(folder / PASSWORD_FILE)
    for name, key in keys.items():
        write_keystore(folder / name, key, password, light=True)


def _write_configs(world: World, peer_ids: list[str]) -> None:
    for node in world.nodes:
        peers = [
            f"/ip4/127.0.0.1/tcp/{other.p2p_port}/p2p/{peer_ids[other.index]}"
            for other in world.nodes
            if other is not node
        ]
        write_config(node.home, _config(node, peers, world.chain))


def _config(node: DevnetNode, peers: list[str], chain: ChainPlace) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"moniker": node.moniker},
            "p2p": {"listen": [f"/ip4/127.0.0.1/tcp/{node.p2p_port}"], "peers": peers},
            "consensus": {"delta_ms": DELTA_MS, "min_block_interval_ms": MIN_BLOCK_INTERVAL_MS},
            "rpc": {
                "port": node.p2p_port + 1,
                "requests_per_second": REQUESTS_PER_SECOND,
                "requests_burst": REQUESTS_PER_SECOND,
            },
            "settlement": {
                "endpoints": [chain.url],
                "poll_interval_ms": SETTLEMENT_POLL_MS,
                "allow_dev_chain": True,
            },
            "metrics": {"port": node.p2p_port + 2},
            "log": {"format": "json"},
        }
    )


def world_document(world: World) -> dict[str, Any]:
    """Return what `devnet.json` holds: nothing secret."""
    members, plan = world.genesis.validators, world.plan
    return {
        "chain_id": world.genesis.chain_id,
        "settlement_chain_id": world.genesis.settlement_chain_id,
        "genesis_hash": "0x" + world.genesis.hash.hex(),
        "validators": len(world.nodes),
        "seed": world.seed,
        "base_port": world.base_port,
        "nodes": [
            {
                "moniker": node.moniker,
                "home": str(node.home.path),
                "rpc": node.rpc_url,
                "websocket": node.websocket_url,
                "metrics": node.metrics_url,
                "p2p": f"/ip4/127.0.0.1/tcp/{node.p2p_port}/p2p/{members[node.index].peer_id}",
                "validator": members[node.index].address,
            }
            for node in world.nodes
        ],
        "chain": {
            **asdict(world.chain),
            "settlement": checksum_address(plan.contract),
            "tokens": {name: checksum_address(token) for name, token in plan.tokens.items()},
            "deployer": checksum_address(plan.deployer),
        },
        "accounts": {name: _address(key) for name, key in world.keys.items()},
    }


def _write_document(world: World) -> None:
    path = world.home.path / DEVNET_FILE
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(world_document(world), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
