"""Which node a client command talks to: `--rpc`, else that of the home, else the default."""

from __future__ import annotations

import os
from typing import Annotated, Final

import typer

from omninode.errors import ConfigError
from omninode.node.cli.invocation import current
from omninode.node.client import RpcClient, local_url
from omninode.node.home import Home

DEFAULT_URL: Final = "http://127.0.0.1:36651"
DEVNET_FILE: Final = "devnet.json"
DEVNET_FIRST_NODE: Final = "node0"

RpcUrl = Annotated[
    str | None,
    typer.Option(
        "--rpc",
        metavar="URL",
        help=f"The node to ask. Default: the node of the home, else {DEFAULT_URL}.",
        show_default=False,
    ),
]


def connect(rpc: str | None) -> RpcClient:
    """Return a client of the node to ask; nothing is sent yet.

    Raises:
        ConfigError: The URL is wrong, or the home's configuration is.
    """
    return RpcClient(rpc if rpc is not None else endpoint_url())


def endpoint_url() -> str:
    """Return the URL of this call's home, devnet or the default."""
    home = current().home
    if is_devnet(home):
        home = Home(home.path / DEVNET_FIRST_NODE)
    return home_url(home) if home.exists() else DEFAULT_URL


def is_devnet(home: Home) -> bool:
    """Whether this is the home of a devnet rather than of a node."""
    return (home.path / DEVNET_FILE).is_file()


def home_url(home: Home) -> str:
    """Return the RPC URL of the node in a home, as its configuration says.

    Raises:
        ConfigError: The configuration is wrong, or lets the system choose the port.
    """
    from omninode.node.config_file import load_config

    rpc = load_config(home.config, environment=os.environ).rpc
    if rpc.port == 0:
        raise ConfigError(
            f"{home.config} leaves the RPC port open", hint="name the node with --rpc"
        )
    return local_url(rpc.host, rpc.port)
