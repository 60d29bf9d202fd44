"""What an operator can set: `omninode.toml`, the environment and flags, in a `NodeConfig`.

Rules
    C1. One source per value, the strongest wins: flag, then `OMNINODE_<SECTION>__<KEY>`, then the
        file, then the default.
    C2. An unknown section or key, a wrong type or an impossible value is an error that names the
        place (file and line, variable or flag), the key and what was expected; all errors are
        reported at once.
    C3. Every key here is read by some part of the node. What must be equal on all nodes is genesis,
        not configuration.

Reading and writing the file is `config_file.py`; this module knows no paths.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from omninode.node.addresses import (
    check_endpoint_url,
    check_host,
    check_listen_address,
    check_origin,
    check_peer_address,
)

P2P_PORT: Final = 36650
RPC_PORT: Final = 36651
METRICS_PORT: Final = 36652

DAY_MS: Final = 24 * 3600 * 1000

Port = Annotated[int, Field(ge=0, le=65535)]
Host = Annotated[str, AfterValidator(check_host)]
ListenAddress = Annotated[str, AfterValidator(check_listen_address)]
PeerAddress = Annotated[str, AfterValidator(check_peer_address)]
Origin = Annotated[str, AfterValidator(check_origin)]
EndpointUrl = Annotated[str, AfterValidator(check_endpoint_url)]
LogLevel = Literal["debug", "info", "warning", "error"]
Subsystem = Literal["consensus", "dex", "node", "p2p", "rpc", "settlement", "storage"]


class Section(BaseModel):
    """One section of the file: immutable, no unknown keys, no silent conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeSection(Section):
    """Who this node is."""

    moniker: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")] = Field(
        default="node",
        description="Name for other people: up to 64 letters, digits, spaces and ._- characters.",
    )
    mode: Literal["validator", "full"] = Field(
        default="validator",
        description=(
            '"validator" votes when its key is in the validator set; '
            '"full" follows the chain and never votes.'
        ),
    )


class PeersSection(Section):
    """Connections to other nodes (libp2p over TCP, Noise, Yamux)."""

    listen: list[ListenAddress] = Field(
        default=[f"/ip4/0.0.0.0/tcp/{P2P_PORT}"],
        min_length=1,
        max_length=8,
        description="Where peers reach this node: multiaddresses such as /ip4/0.0.0.0/tcp/36650.",
    )
    peers: list[PeerAddress] = Field(
        default=[],
        max_length=256,
        description=(
            "Nodes to stay connected with: multiaddresses that end in /p2p/PEER_ID. "
            "A validator lists the other validators."
        ),
    )
    bootstrap: list[PeerAddress] = Field(
        default=[],
        max_length=64,
        description=(
            "Nodes to ask for others while there are too few connections: multiaddresses that end "
            "in /p2p/PEER_ID. What is found is kept in peers.json beside this file."
        ),
    )
    outbound_peers: int = Field(
        default=8,
        ge=0,
        le=128,
        description=(
            "How many connections of its own choice the node keeps, those to `peers` included. "
            "0: it dials `peers` only, and a validator the other validators."
        ),
    )
    psk_file: str = Field(
        default="",
        description=(
            "File with the key of a private network, mode 0600; a path in the home, or an absolute "
            "one. All members need the same (`omninode keys new-psk` makes one); who has another, "
            "or none, is not talked to. Empty: a public network."
        ),
    )
    connections_max: int = Field(
        default=128,
        ge=1,
        le=4096,
        description=(
            "Most connections at a time. Newcomers beyond it are closed; "
            "the nodes of `peers` and validators always get in."
        ),
    )
    connections_per_ip_max: int = Field(
        default=32,
        ge=1,
        le=4096,
        description=(
            "Most connections from one IPv4 address or IPv6 /64, "
            "outside of the nodes of `peers` and validators."
        ),
    )


class ConsensusSection(Section):
    """Timing of the consensus protocol. Nodes may differ; equal values work best."""

    delta_ms: int = Field(
        default=400,
        ge=5,
        le=60_000,
        description=(
            "Expected delay of one message between validators, in milliseconds. "
            "Every timer is a multiple of it; 400 suits the internet, 50 one machine."
        ),
    )
    min_block_interval_ms: int = Field(
        default=50,
        ge=0,
        le=60_000,
        description="Shortest time between two blocks that carry transactions, in milliseconds.",
    )
    idle_block_interval_ms: int = Field(
        default=2_000,
        ge=10,
        le=600_000,
        description="Time between empty blocks while nobody trades, in milliseconds.",
    )


class DexSection(Section):
    """The exchange. Its rules (markets, fees, limits) are in genesis; nothing is local yet."""


class StorageSection(Section):
    """What is kept on disk."""

    retain_blocks_ms: int = Field(
        default=7 * DAY_MS,
        ge=0,
        description=(
            "Age from which blocks and their history are dropped, in milliseconds of block time. "
            "0 keeps all; the default is 7 days."
        ),
    )


class ChatSection(Section):
    """Chat rooms. Nothing is local yet."""


class SettlementSection(Section):
    """The settlement chain. Which one, and the contract on it, are in genesis."""

    endpoints: list[EndpointUrl] = Field(
        default=[],
        max_length=8,
        description=(
            "JSON-RPC URLs of the EVM chain, such as http://127.0.0.1:8545. More than half of them "
            "must agree on a block before it counts, so use nodes of different people. "
            "Empty: this node attests no deposits and sends no checkpoints."
        ),
    )
    poll_interval_ms: int = Field(
        default=1_000,
        ge=20,
        le=600_000,
        description="Time between two questions for the chain's newest block, in milliseconds.",
    )
    request_timeout_ms: int = Field(
        default=10_000,
        ge=100,
        le=600_000,
        description="Longest wait for an endpoint's answer, in milliseconds.",
    )
    relay: bool = Field(
        default=True,
        description=(
            "Whether a validator sends checkpoints to the chain in its turn and pays their gas "
            "from the account of keys/relayer.json."
        ),
    )
    allow_dev_chain: bool = Field(
        default=False,
        description=(
            "Whether the chain may be a developer's (id 1337 or 31337), whose money anybody makes."
        ),
    )


class RpcSection(Section):
    """JSON-RPC over HTTP and WebSocket, on one port."""

    host: Host = Field(
        default="127.0.0.1",
        description=(
            "Address to listen on. Loopback by default: "
            "put a proxy with TLS before anything public."
        ),
    )
    port: Port = Field(default=RPC_PORT, description="TCP port; 0 takes a free one.")
    cors_origins: list[Origin] = Field(
        default=[],
        max_length=64,
        description=(
            "Web pages whose scripts may call this node, such as https://trade.example; "
            '"*" means any. Empty: none.'
        ),
    )
    requests_per_second: int = Field(
        default=200,
        ge=1,
        le=10_000_000,
        description=(
            "Requests a client (one IP address) may make per second; "
            "a batch counts each of its calls."
        ),
    )
    requests_burst: int = Field(
        default=400,
        ge=1,
        le=10_000_000,
        description="Requests a client may make at once before the rate above applies.",
    )
    connections_max: int = Field(
        default=1_024,
        ge=1,
        le=65_535,
        description="Most open connections; newcomers beyond it are refused.",
    )
    body_bytes_max: int = Field(
        default=1_048_576,
        ge=1_024,
        le=67_108_864,
        description="Largest request body or WebSocket message, in bytes.",
    )
    nesting_max: int = Field(
        default=64, ge=4, le=512, description="Deepest nesting of arrays and objects in a request."
    )
    batch_max: int = Field(
        default=100, ge=1, le=10_000, description="Most calls in one JSON-RPC batch."
    )
    list_max: int = Field(
        default=1_000, ge=1, le=100_000, description="Longest list that one call returns."
    )


class MetricsSection(Section):
    """Prometheus metrics: GET /metrics."""

    host: Host = Field(default="127.0.0.1", description="Address to listen on.")
    port: Port = Field(default=METRICS_PORT, description="TCP port; 0 takes a free one.")


class LogSection(Section):
    """Logs, always on stderr."""

    level: LogLevel = Field(default="info", description="debug, info, warning or error.")
    format: Literal["auto", "console", "json"] = Field(
        default="auto",
        description=(
            '"console" for people, "json" one object a line, '
            '"auto" console on a terminal and json otherwise.'
        ),
    )
    levels: dict[Subsystem, LogLevel] = Field(
        default={},
        description=(
            'Other levels for single subsystems, such as { consensus = "debug" }. '
            "Subsystems: consensus, dex, node, p2p, rpc, settlement, storage."
        ),
    )


class NodeConfig(Section):
    """The whole configuration; the only form in which the rest of the node sees it."""

    node: NodeSection = NodeSection()
    p2p: PeersSection = PeersSection()
    consensus: ConsensusSection = ConsensusSection()
    dex: DexSection = DexSection()
    storage: StorageSection = StorageSection()
    chat: ChatSection = ChatSection()
    settlement: SettlementSection = SettlementSection()
    rpc: RpcSection = RpcSection()
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()


SECTIONS: Final[dict[str, type[Section]]] = {
    name: field.annotation
    for name, field in NodeConfig.model_fields.items()
    if isinstance(field.annotation, type)
}
"""The section models by name, in the order of the file."""


def conflicts(config: NodeConfig) -> list[tuple[str, str, str]]:
    """Return what can not be together: section, key, and what was expected of it."""
    found = []
    consensus, rpc, metrics = config.consensus, config.rpc, config.metrics
    if consensus.idle_block_interval_ms < consensus.min_block_interval_ms:
        least = f"min_block_interval_ms, {consensus.min_block_interval_ms}"
        found.append(("consensus", "idle_block_interval_ms", f"expected at least {least}"))
    if metrics.port == rpc.port != 0 and metrics.host == rpc.host:
        found.append(("metrics", "port", "expected another port than rpc.port"))
    return found
