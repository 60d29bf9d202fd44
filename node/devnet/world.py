"""The world of a devnet on disk: genesis, node homes, keystores, `devnet.json`.

Rules
    W1. `devnet.json` is written last: a folder without it is unfinished and is made anew.
    W2. Nothing but what a devnet makes is ever removed; a folder with anything else is refused.
    W3. Started again, a devnet keeps its keys, its genesis and its chain. Only the ports may be
        chosen anew; the nodes' configurations are then written again.
    W4. Nothing is written or removed before it is clear that the devnet can be what it is to be,
        and has its ports (`layout`).

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
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import Genesis
from omninode.errors import ConfigError, StorageFault
from omninode.node.config import NodeConfig
from omninode.node.devnet import accounts
from omninode.node.devnet.chain_place import FOLDER, ChainPlace
from omninode.node.devnet.deployment import Plan, plan_of
from omninode.node.devnet.genesis import devnet_genesis
from omninode.node.devnet.layout import (
    Layout,
    WorldOptions,
    changed_layout,
    check_ports,
    new_layout,
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

DELTA_MS: Final = 50
MIN_BLOCK_INTERVAL_MS: Final = 35
"""All validators share this machine: 20 ms makes so many blocks that two cores are busy and orders
wait for the processor, 50 ms makes them wait for the block."""

REQUESTS_PER_SECOND: Final = 1_000_000
"""Above any load of ours: all of it comes from one address."""

SETTLEMENT_POLL_MS: Final = 250
"""The chain makes a block a second: a deposit should not wait longer for being seen."""

_OURS: Final = re.compile(r"node\d+|accounts|chain|devnet\.json(\.new)?|omninode\.lock")


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
        """Return the accounts that pay for the validators' checkpoints, and the stakes' owners."""
        found = (keystore_address(node.home.relayer_keystore) for node in self.nodes)
        owners = [key.address for key in _stakers(self.seed, len(self.nodes)).values()]
        return [address for address in found if address is not None] + owners


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
    _layout(home, options)  # refuses before the folder is touched; what it reads may change (W4)
    _prepare_folder(home)
    with home.locked():
        known, layout = _layout(home, options)
        check_ports(layout)
        if known is None:
            _remove(home)
            world = _make(home, layout)
            step(f"made keys, genesis and accounts in {home.path}, validators: {len(world.nodes)}")
        else:
            world = _load(home, known, layout)
            step(f"going on with what is in {home.path}, validators: {len(world.nodes)}")
        yield world


def _layout(home: Home, options: WorldOptions) -> tuple[Layout | None, Layout]:
    """Return what the devnet in a folder was and is to be; `None` if a new one is made."""
    known = None if options.reset else _read_document(home)
    if known is None:
        return None, new_layout(options)
    return known, changed_layout(options, known, home.path)


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


def _read_document(home: Home) -> Layout | None:
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
        return Layout(
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


def _make(home: Home, layout: Layout) -> World:
    seed, base_port, chain = layout.seed, layout.base_port, layout.chain
    nodes = _nodes(home, layout.validators, base_port)
    identities = [create_keys(node.home, password=None, light=True) for node in nodes]
    keys = accounts.derive_keys(seed)
    time_ms = time.time_ns() // 1_000_000
    genesis = devnet_genesis(identities, keys, chain, seed=seed, time_ms=time_ms)
    text = genesis.to_json().decode()
    for node in nodes:
        write_genesis(node.home, text)
    _write_keystores(home, keys | _stakers(seed, layout.validators))
    world = World(home, genesis, seed, base_port, chain, nodes, keys, is_new=True)
    _write_configs(world, [identity.peer_id for identity in identities])
    _write_document(world)
    return world


def _load(home: Home, known: Layout, layout: Layout) -> World:
    nodes = _nodes(home, layout.validators, layout.base_port)
    for node in nodes:
        node.home.require()
    genesis = read_genesis(nodes[0].home.genesis)
    keys = accounts.derive_keys(layout.seed)
    world = World(
        home, genesis, layout.seed, layout.base_port, layout.chain, nodes, keys, is_new=False
    )
    if layout != known:  # W3
        _write_configs(world, [NodeIdentity.load(node.home.node_key).peer_id for node in nodes])
        _write_document(world)
    return world


def _nodes(home: Home, count: int, base_port: int) -> tuple[DevnetNode, ...]:
    return tuple(
        DevnetNode(index, Home(home.path / f"node{index}"), base_port) for index in range(count)
    )


def _address(key: SigningKey) -> str:
    return checksum_address(key.address)


def _stakers(seed: int, validators: int) -> dict[str, SigningKey]:
    """Return the keys that own the stakes of genesis, by name."""
    names = [accounts.staker(index) for index in range(validators)]
    return {name: accounts.derive_key(seed, name) for name in names}


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
