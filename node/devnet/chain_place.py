"""Which settlement chain a devnet has: one of its own, anvil, or somebody else's.

```
embedded    `omninode chain`, in HOME/chain; the default
anvil       a program of others, in HOME/chain; $OMNINODE_ANVIL, PATH or the tree's node_modules
URL         a chain that runs already; the deployer's account must have coins there
```

A devnet's keys derive from a seed that everybody knows. So only a development chain will do: what
lies in these accounts on any other, a public test network included, is anybody's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from omninode.contracts.wire import read_header, read_quantity
from omninode.crypto import checksum_address
from omninode.errors import ConfigError, Malformed, OmniNodeError, UserError
from omninode.node.addresses import check_endpoint_url
from omninode.node.client import RpcClient
from omninode.node.devnet.processes import PROGRAM, DevnetProcess
from omninode.node.local_genesis import DEV_CHAIN_IDS, SETTLEMENT_CHAIN_ID

ChainKind = Literal["embedded", "anvil", "url"]

FOLDER: Final = "chain"
ANVIL_VARIABLE: Final = "OMNINODE_ANVIL"
BLOCK_INTERVAL_S: Final = 1
_TREE: Final = Path(__file__).resolve().parents[2]
_ANVIL_IN_TREE: Final = "contracts/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
_ANVIL_STATE_INTERVAL_S: Final = 5
_ANVIL_GAS_LIMIT: Final = 60_000_000
_WORD: Final = 2**256
_HINT: Final = "start it, or leave --chain out for one of the devnet's own"


@dataclass(frozen=True, slots=True)
class ChainPlace:
    """A devnet's settlement chain.

    Attributes:
        kind: Whose it is.
        url: Where it answers JSON-RPC.
        chain_id: Its id.
        first_nonce: The deployer's nonce before this devnet deployed anything.
        start_block: The first block that can have anything of this devnet.
    """

    kind: ChainKind
    url: str
    chain_id: int = SETTLEMENT_CHAIN_ID
    first_nonce: int = 0
    start_block: int = 0

    @property
    def is_ours(self) -> bool:
        """Whether this devnet runs it."""
        return self.kind != "url"

    @property
    def port(self) -> int | None:
        """Its port on this machine, if it is ours."""
        return urlsplit(self.url).port if self.is_ours else None


def choose_chain(chosen: str, *, port: int, deployer: bytes) -> ChainPlace:
    """Read `--chain`; asks a chain that runs already who it is.

    Args:
        chosen: `embedded`, `anvil` or a URL.
        port: Where a chain of ours will answer.
        deployer: Who will deploy the contracts.

    Raises:
        ConfigError: It is none of these, or no development chain.
        UserError: The chain at the URL does not answer, or not as an EVM chain does, or its
            deployer has no coins.
    """
    url = f"http://127.0.0.1:{port}"
    if chosen == "embedded":
        return ChainPlace("embedded", url)
    if chosen == "anvil":
        find_anvil(os.environ)
        return ChainPlace("anvil", url)
    try:
        check_endpoint_url(chosen)
    except ValueError:
        raise ConfigError(f"--chain {chosen}: expected embedded, anvil or a URL") from None
    return _running_chain(chosen, deployer)


def check_chain_id(chain_id: int) -> None:
    """Refuse a chain where money may be real, or where strangers could take it.

    Raises:
        ConfigError: It is no development chain.
    """
    if chain_id not in DEV_CHAIN_IDS:
        known = " or ".join(str(known) for known in sorted(DEV_CHAIN_IDS))
        raise ConfigError(
            f"--chain: the chain's id is {chain_id}, a development chain's is {known}: the keys of "
            "a devnet are public, so on any other chain, also a public test network, anybody can "
            "take what is in its accounts",
            hint="leave --chain out, or name a chain that you run yourself, such as anvil",
        )


def _running_chain(url: str, deployer: bytes) -> ChainPlace:
    address = checksum_address(deployer)
    with RpcClient(url) as client:
        try:
            chain_id = read_quantity(client.call("eth_chainId", []), below=_WORD)
            check_chain_id(chain_id)
            nonce = read_quantity(client.call("eth_getTransactionCount", [address, "latest"]))
            held = client.call("eth_getBalance", [address, "latest"])
            coins = read_quantity(held, below=_WORD)
            block = read_header(client.call("eth_getBlockByNumber", ["latest", False])).number
        except ConfigError:
            raise
        except Malformed as error:
            raise UserError(
                "bad_response", f"what answers at {url} is no EVM chain: {error}", hint=_HINT
            ) from None
        except OmniNodeError as error:
            raise UserError(
                "chain_unreachable",
                f"no settlement chain answers at {url}: {error}",
                hint=_HINT,
            ) from None
    if coins == 0:
        raise UserError(
            "deployer_needs_coins",
            f"{address}, which deploys this devnet's contracts, has no coins on chain {chain_id}",
            hint=f"send coins to {address}, then start again",
        )
    return ChainPlace("url", url, chain_id, nonce, block)


def chain_process(place: ChainPlace, folder: Path, *, deployer: bytes) -> DevnetProcess | None:
    """Return the process of a chain of ours; `None` for somebody else's.

    Raises:
        ConfigError: There is no anvil.
        StorageFault: Its folder can not be made.
    """
    if not place.is_ours:
        return None
    folder.mkdir(mode=0o700, exist_ok=True)
    port = str(place.port)
    if place.kind == "anvil":
        command = [
            *(str(find_anvil(os.environ)), "--silent", "--host", "127.0.0.1", "--port", port),
            *("--chain-id", str(place.chain_id), "--block-time", str(BLOCK_INTERVAL_S)),
            *("--gas-limit", str(_ANVIL_GAS_LIMIT), "--state", str(folder / "anvil.json")),
            *("--state-interval", str(_ANVIL_STATE_INTERVAL_S)),
        ]
    else:
        fund = checksum_address(deployer)
        command = [*PROGRAM, "--home", str(folder), "chain", "--port", port, "--fund", fund]
    return DevnetProcess("chain", command, folder / "chain.log")


def find_anvil(environment: Mapping[str, str]) -> Path:
    """Return where anvil is.

    Raises:
        ConfigError: It is nowhere.
    """
    named = environment.get(ANVIL_VARIABLE)
    if named:
        if os.access(named, os.X_OK) and Path(named).is_file():
            return Path(named)
        raise ConfigError(f"{ANVIL_VARIABLE} names {named}, which can not be run")
    on_path = shutil.which("anvil", path=environment.get("PATH", ""))
    if on_path is not None:
        return Path(on_path)
    in_tree = _TREE / _ANVIL_IN_TREE
    if in_tree.is_file():
        return in_tree
    raise ConfigError(
        "--chain anvil: there is no anvil",
        hint=f"`./dev contracts` installs one; or name it with {ANVIL_VARIABLE}",
    )
