"""The world of a devnet on disk: genesis, node homes, keystores, `devnet.json`.

Rules
    W1. `devnet.json` is written last: a folder without it is unfinished and is made anew.
    W2. Nothing but what a devnet makes is ever removed; a folder with anything else is refused.
    W3. Started again, a devnet keeps its keys, its genesis and its chain. Only the ports may be
        chosen anew; the nodes' configurations are then written again.

```
HOME/node0 … nodeN-1      an ordinary node home each
HOME/accounts/            keystores of the accounts, and `password`
HOME/devnet.json          URLs, chain id, accounts
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisBalance,
    GenesisValidator,
    check_genesis,
)
from omninode.errors import ConfigError, StorageFault, UserError
from omninode.node.config import NodeConfig
from omninode.node.devnet import accounts
from omninode.node.devnet.limits import PORTS_DEADLINE_S, PORTS_PER_NODE, PORTS_USED, VALIDATORS_MAX
from omninode.node.genesis_file import read_genesis
from omninode.node.home import Home
from omninode.node.home_setup import HomeIdentity, create_keys, write_config, write_genesis
from omninode.node.keys.keystore import write_keystore
from omninode.node.keys.passwords import make_password_file
from omninode.node.local_genesis import ASSETS, FUNDS, MARKETS, SETTLEMENT_CHAIN_ID
from omninode.node.net.identity import NodeIdentity

CHAIN_ID: Final = "omninode-devnet"
DEVNET_FILE: Final = "devnet.json"
ACCOUNTS_FOLDER: Final = "accounts"
PASSWORD_FILE: Final = "password"  # noqa: S105 - the name of a file

VALIDATORS_DEFAULT: Final = 4
SEED_DEFAULT: Final = 1
BASE_PORT_DEFAULT: Final = 36650

POWER: Final = 100
DELTA_MS: Final = 50
MIN_BLOCK_INTERVAL_MS: Final = 20
"""On one machine half of a transaction's wait is for the next block; 20 ms instead of 50 costs some
ten points of a core."""

REQUESTS_PER_SECOND: Final = 1_000_000
"""Above any load of ours: all of it comes from one address."""

BUYER_USDC: Final = "1000000000"
SELLER_BTC: Final = "10000"
HOUSE_FUNDS: Final = (("USDC", "100000000"), ("ETH", "100000"), ("XOM", "100000000"))

_PORT_POLL_S: Final = 0.05

_OURS: Final = re.compile(r"node\d+|accounts|chain|devnet\.json(\.new)?|omninode\.lock")


@dataclass(frozen=True, slots=True)
class WorldOptions:
    """What the caller asks for; `None` means what is there, else the default."""

    validators: int | None = None
    seed: int | None = None
    base_port: int | None = None
    reset: bool = False


@dataclass(frozen=True, slots=True)
class DevnetNode:
    """One validator: its place, its home and its ports."""

    index: int
    home: Home
    base_port: int

    @property
    def moniker(self) -> str:
        """Its name."""
        return f"node{self.index}"

    @property
    def p2p_port(self) -> int:
        """The port for peers."""
        return self.base_port + PORTS_PER_NODE * self.index

    @property
    def rpc_url(self) -> str:
        """Where it answers JSON-RPC over HTTP."""
        return f"http://127.0.0.1:{self.p2p_port + 1}"

    @property
    def websocket_url(self) -> str:
        """Where it answers JSON-RPC over WebSocket."""
        return f"ws://127.0.0.1:{self.p2p_port + 1}"

    @property
    def metrics_url(self) -> str:
        """Where Prometheus reads."""
        return f"http://127.0.0.1:{self.p2p_port + 2}/metrics"

    @property
    def log_file(self) -> Path:
        """Where its log goes."""
        return self.home.path / "omninode.log"


@dataclass(frozen=True, slots=True)
class World:
    """A devnet that is ready to run."""

    home: Home
    genesis: Genesis
    seed: int
    base_port: int
    nodes: tuple[DevnetNode, ...]
    keys: dict[str, SigningKey]
    is_new: bool


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
    if base is not None and not 1_024 <= base <= 65_535 - last:
        raise ConfigError(f"--base-port {base}: expected 1024 to {65_535 - last}")


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


def _read_document(home: Home) -> dict[str, int] | None:
    path = home.path / DEVNET_FILE
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return {name: int(document[name]) for name in ("validators", "seed", "base_port")}
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
    nodes = _nodes(home, count, base_port)
    identities = [create_keys(node.home, password=None, light=True) for node in nodes]
    keys = accounts.derive_keys(seed)
    genesis = devnet_genesis(identities, keys, seed=seed, time_ms=time.time_ns() // 1_000_000)
    text = genesis.to_json().decode()
    for node in nodes:
        write_genesis(node.home, text)
    _write_keystores(home, keys)
    _write_configs(nodes, [identity.peer_id for identity in identities])
    world = World(home, genesis, seed, base_port, nodes, keys, is_new=True)
    _write_document(world)
    return world


def _load(home: Home, options: WorldOptions, known: dict[str, int]) -> World:
    for name, wanted in (("validators", options.validators), ("seed", options.seed)):
        if wanted is not None and wanted != known[name]:
            raise ConfigError(
                f"--{name} {wanted}: the devnet in {home.path} was made with {known[name]}",
                hint="leave the option out to go on with it, or add --reset to start anew",
            )
    base_port = options.base_port or known["base_port"]
    nodes = _nodes(home, known["validators"], base_port)
    for node in nodes:
        node.home.require()
    genesis = read_genesis(nodes[0].home.genesis)
    seed = known["seed"]
    keys = accounts.derive_keys(seed)
    world = World(home, genesis, seed, base_port, nodes, keys, is_new=False)
    if base_port != known["base_port"]:  # W3
        _write_configs(nodes, [NodeIdentity.load(node.home.node_key).peer_id for node in nodes])
        _write_document(world)
    return world


def _check_ports(world: World) -> None:
    """Refuse ports that somebody else has, before any validator trips over them.

    Systems lend such ports to outgoing connections, too; those are gone in a moment.
    """
    deadline_s = time.monotonic() + PORTS_DEADLINE_S
    for node in world.nodes:
        for port in range(node.p2p_port, node.p2p_port + PORTS_USED):
            while not _is_free(port):
                if time.monotonic() > deadline_s:
                    raise UserError(
                        "port_in_use",
                        f"port {port}, for {node.moniker}, is in use",
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


def _nodes(home: Home, count: int, base_port: int) -> tuple[DevnetNode, ...]:
    return tuple(
        DevnetNode(index, Home(home.path / f"node{index}"), base_port) for index in range(count)
    )


def devnet_genesis(
    validators: list[HomeIdentity], keys: dict[str, SigningKey], *, seed: int, time_ms: int
) -> Genesis:
    """Return the genesis of a devnet.

    Args:
        validators: The nodes' keys, in their order.
        keys: The accounts' keys by name (`accounts.derive_keys`).
        seed: The devnet's seed.
        time_ms: The time of the genesis block, milliseconds since the epoch.
    """
    genesis = Genesis(
        chain_id=CHAIN_ID,
        settlement_chain_id=SETTLEMENT_CHAIN_ID,
        genesis_time_ms=time_ms,
        fees=FeeShares(
            treasury=_address(accounts.derive_key(seed, accounts.TREASURY)),
            development=_address(accounts.derive_key(seed, accounts.DEVELOPMENT)),
        ),
        validators=tuple(
            GenesisValidator(
                moniker=f"node{index}",
                address=checksum_address(identity.address),
                public_key="0x" + identity.public_key.hex(),
                peer_id=identity.peer_id,
                power=POWER,
            )
            for index, identity in enumerate(validators)
        ),
        assets=ASSETS,
        markets=MARKETS,
        balances=tuple(
            GenesisBalance(address=_address(key), asset=asset, amount=amount)
            for name, key in keys.items()
            for asset, amount in _funds(name)
        ),
    )
    check_genesis(genesis)
    return genesis


def _funds(name: str) -> tuple[tuple[str, str], ...]:
    if name in accounts.PEOPLE:
        return FUNDS
    if name == accounts.HOUSE:
        return HOUSE_FUNDS
    return (("USDC", BUYER_USDC),) if name in accounts.BUYERS else (("BTC", SELLER_BTC),)


def _address(key: SigningKey) -> str:
    return checksum_address(key.address)


def _write_keystores(home: Home, keys: dict[str, SigningKey]) -> None:
    folder = home.path / ACCOUNTS_FOLDER
    password = make_password_file(folder / PASSWORD_FILE)
    for name, key in keys.items():
        write_keystore(folder / name, key, password, light=True)


def _write_configs(nodes: tuple[DevnetNode, ...], peer_ids: list[str]) -> None:
    for node in nodes:
        peers = [
            f"/ip4/127.0.0.1/tcp/{other.p2p_port}/p2p/{peer_ids[other.index]}"
            for other in nodes
            if other is not node
        ]
        write_config(node.home, _config(node, peers))


def _config(node: DevnetNode, peers: list[str]) -> NodeConfig:
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
            "metrics": {"port": node.p2p_port + 2},
            "log": {"format": "json"},
        }
    )


def world_document(world: World) -> dict[str, Any]:
    """Return what `devnet.json` holds: nothing secret."""
    members = world.genesis.validators
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
        "accounts": {name: _address(key) for name, key in world.keys.items()},
    }


def _write_document(world: World) -> None:
    path = world.home.path / DEVNET_FILE
    draft = path.with_name(path.name + ".new")
    draft.write_text(json.dumps(world_document(world), indent=2) + "\n", encoding="utf-8")
    draft.replace(path)
