"""The shapes of results, for `rpc.discover` and the reference; tests hold the answers to them.

Numbers of money are decimal text in human units, hashes 0x hex, addresses EIP-55, times
milliseconds since the epoch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from omninode.node.rpc.settlement_results import SettlementShown

OrderState = Literal[
    "received",
    "sealed",
    "revealed",
    "open",
    "partially_filled",
    "filled",
    "cancelled",
    "rejected",
    "expired",
]
Level = Annotated[
    list[str], msgspec.Meta(min_length=2, max_length=2, description="`[price, size]`")
]
Cursor = Annotated[
    str | None, msgspec.Meta(description="Give it as `before` for the next page; null at the end.")
]


class ValidatorSelf(TypedDict):
    """This node as a validator."""

    address: str
    power: int
    score: str
    jailed: bool


class Status(TypedDict):
    """What the node is doing. `height` is that of its newest stored block."""

    chain_id: str
    genesis_hash: str
    version: str
    node_id: str
    moniker: str
    height: int
    block_hash: str
    app_hash: str
    block_time_ms: int
    catching_up: bool
    halted: str | None
    peers: int
    validator: ValidatorSelf | None
    settlement: SettlementShown | None


class Peer(TypedDict):
    """A known peer; `ping_ms` is its last round trip, a `score` of 0 clean."""

    peer_id: str
    moniker: str
    address: str | None
    connected: bool
    direction: str | None
    ping_ms: float | None
    score: int
    is_validator: bool
    is_persistent: bool
    connected_since_ms: int | None
    last_error: str
    banned_until_ms: int | None
    ban_reason: str


class Peers(TypedDict):
    """The peers this node knows, connected ones first."""

    height: int
    peers: list[Peer]


class GenesisResult(TypedDict):
    """The network's rules, as `genesis.json` has them."""

    genesis_hash: str
    height: int
    genesis: dict[str, Any]


class ViewVotes(TypedDict):
    """One validator's votes in the present view."""

    address: str
    moniker: str
    power: int
    votes: list[Literal["notarize", "nullify", "finalize"]]


class ConsensusState(TypedDict):
    """Where consensus stands and what it waits for.

    `waiting_for` is `proposal`, `notarization`, `nullification`, `memory` (of peers, after a
    restart), `blocks` (to sync) or `halted`. `armed`: whether this node votes.
    """

    height: int
    executed_height: int
    epoch: int
    view: int
    leader: str
    armed: bool
    waiting_for: str
    quorum: Annotated[int, msgspec.Meta(description="Least power of a certificate.")]
    total_power: int
    votes: list[ViewVotes]


class SealedBatch(TypedDict):
    """A batch of the sealed lane, named by the height of its first commitment."""

    batch: int
    stage: Literal["collecting", "waiting", "open", "closed"]
    leaders_seen: int
    leaders_needed: int
    opened_ms: int | None


class SealedLane(TypedDict):
    """The sealed lane's terms and batches; `commits` are the account's that are not cleared.

    A bond is at least `bond_ppm` of the order's notional and `bond_minimum` of the quote asset.
    """

    bond_ppm: int
    bond_minimum: str
    collect_ms: int
    window_ms: int
    window_max_ms: int
    leaders: int
    commits: int
    commits_max: int
    batches: list[SealedBatch]


class Limits(TypedDict):
    """What an account may still send, and the bounds of what anybody may."""

    address: str
    height: int
    time_ms: int
    open_orders: int
    open_orders_max: int
    open_orders_left: int
    transactions_per_block_max: int
    transaction_bytes_max: int
    batch_items_max: int
    nonce_window_ms: int
    nonce_min: int
    nonce_max: int
    sealed: SealedLane


class ItemOutcome(TypedDict, total=False):
    """What became of one order, cancel or replacement of a transaction."""

    status: str
    reason: str
    order_id: str | None
    client_id: str
    market: str
    filled: str
    average_price: str | None
    fees: str


class BlockTransaction(TypedDict):
    """A transaction in a block; `tx` is the hex of its signed bytes."""

    hash: str
    account: str
    code: str
    reason: str
    tx: str


class BlockHeader(TypedDict):
    """A block's header (PROTOCOL.md P2)."""

    version: int
    epoch: int
    view: int
    height: int
    time_ms: int
    parent_hash: str
    parent_view: int
    proposer: int
    body_root: str
    executed_height: int
    executed_final_view: int
    app_hash: str
    valset_hash: str


class CertificateShown(TypedDict):
    """The finalization that covers a block: its own or that of a later one."""

    height: int
    view: int
    block_hash: str
    signers: list[str]
    signatures: list[str]


class Block(TypedDict):
    """A final block. The header's `app_hash` is after `executed_height`, the outer after it."""

    height: int
    hash: str
    time_ms: int
    app_hash: str
    header: BlockHeader
    transactions: list[BlockTransaction]
    certificate: CertificateShown | None
    events: list[dict[str, Any]]


class Blocks(TypedDict):
    """Blocks in height order."""

    height: int
    blocks: list[Block]


class Sent(TypedDict):
    """A transaction that is durable here and handed to the validators, or was final already."""

    hash: str
    state: Literal["received", "final"]


class FinalResult(TypedDict):
    """What became of a transaction: `code` is `ok` or `rejected`, with `reason`.

    `events` are those of its block that concern its orders, funds or session key; `fills` are
    its account's sides of trades among them.
    """

    hash: str
    state: Literal["final"]
    height: int
    index: int
    time_ms: int
    code: str
    reason: str
    items: list[ItemOutcome]
    events: list[dict[str, Any]]
    fills: list[dict[str, Any]]


class TransactionShown(TypedDict):
    """A transaction and its state: `received`, `final` (then with its result) or `expired`."""

    hash: str
    state: Literal["received", "final", "expired"]
    height: int | None
    index: int | None
    time_ms: int | None
    code: str | None
    reason: str | None
    items: list[ItemOutcome]
    action: dict[str, Any] | None
    tx: str | None


class Transactions(TypedDict):
    """Transactions that acted for an account, newest first."""

    height: int
    address: str
    transactions: list[TransactionShown]
    next: Cursor


class TypedData(TypedDict):
    """The EIP-712 document. `unsigned`, then `c441` and the 65-byte signature, is the `tx`."""

    types: dict[str, Any]
    primaryType: str
    domain: dict[str, Any]
    message: dict[str, Any]
    unsigned: str


class Market(TypedDict):
    """A market's rules and the top of its book."""

    market: str
    base: str
    quote: str
    tick: str
    lot: str
    min_notional: str
    max_notional: str | None
    maker_fee_ppm: int
    taker_fee_ppm: int
    price_band_ppm: int
    last_price: str | None
    best_bid: str | None
    best_ask: str | None
    trades: int


class Markets(TypedDict):
    """All markets."""

    height: int
    markets: list[Market]


class OrderBook(TypedDict):
    """Total size by price, best first on both sides."""

    market: str
    height: int
    time_ms: int
    bids: list[Level]
    asks: list[Level]


class Trade(TypedDict):
    """A trade; `side` is the taker's. `trade_id` counts the market's trades from 1."""

    market: str
    trade_id: int
    price: str
    size: str
    side: Literal["buy", "sell"]
    taker_order_id: str
    maker_order_id: str
    height: int
    time_ms: int


class Trades(TypedDict):
    """A market's trades, newest first."""

    height: int
    market: str
    trades: list[Trade]
    next: int | None


class Ticker(TypedDict):
    """A market's last price and best prices."""

    market: str
    last_price: str | None
    best_bid: str | None
    best_ask: str | None
    trades: int


class Tickers(TypedDict):
    """The tickers of all markets."""

    height: int
    time_ms: int
    tickers: list[Ticker]


class Balance(TypedDict):
    """What a subaccount owns of an asset; `held` is bound by its open orders."""

    asset: str
    free: str
    held: str
    total: str


class Subaccount(TypedDict):
    """One subaccount that was ever used."""

    account: str
    subaccount: int
    balances: list[Balance]
    open_orders: int


class Agent(TypedDict):
    """A session key that may act for the account."""

    agent: str
    name: str
    permissions: list[str]
    expires_ms: int


class Account(TypedDict):
    """An account with its subaccounts and session keys; both are empty for a stranger."""

    address: str
    height: int
    subaccounts: list[Subaccount]
    agents: list[Agent]


class Order(TypedDict):
    """An order. `height` is that of the block that placed or ended it.

    What a sealed order hides is null.
    """

    order_id: str
    client_id: str
    market: str
    side: Literal["buy", "sell"] | None
    type: str | None
    tif: str | None
    state: OrderState
    reason: str
    price: str | None
    size: str | None
    filled: str
    remaining: str | None
    average_price: str | None
    fees: str
    height: int
    children: list[str]


class OpenOrders(TypedDict):
    """Open orders by market and age; each has its `account` beside what `Order` has."""

    height: int
    address: str
    orders: list[Order]


class FillShown(TypedDict):
    """One side of a trade, as its trader sees it."""

    market: str
    trade_id: int
    account: str
    order_id: str
    side: Literal["buy", "sell"]
    price: str
    size: str
    liquidity: Literal["maker", "taker"]
    fee: str
    fee_asset: str
    height: int
    time_ms: int


class Fills(TypedDict):
    """An account's fills, newest first."""

    height: int
    address: str
    fills: list[FillShown]
    next: Cursor


class Subscribed(TypedDict):
    """A subscription; its messages come as notifications `omni_subscription`.

    Each has `subscription`, `channel`, `height` and `sequence`, which counts from 1 without gaps.
    They begin with the block after `height`, which `snapshot` is true for.
    """

    subscription: str
    channel: str
    height: int
    snapshot: dict[str, Any] | list[dict[str, Any]] | None
