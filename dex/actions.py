"""What a trader can ask for: the actions inside a transaction, as the wallet shows and signs them.

Rules
    A1. An action holds human fields: decimal text (D1 of `dex.decimals`), market and asset names,
        words. A change of tick or lot therefore never changes what a signature means (P1).
    A2. Who asks (`account`) and when (`nonce`) belong to the transaction, not to the action.
    A3. One meaning has one form: an absent id or price is the empty string or no bytes,
        permissions stand in the order of `PERMISSIONS`, each once.
    A4. An action that decodes is well formed: enumerated words, lengths, alphabets, positive
        numbers and the fields that go together are checked here. Whether a market exists or a
        price lies on its grid is not: see `dex.transaction.check_stateless`.
    A5. `VALIDATOR_ACTIONS` are what validators tell the exchange about the settlement chain, about
        themselves and about each other; they come by a scheme of their own (X5 of
        `dex.transaction`) and nobody else has them.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec

from omninode.crypto import HASH_BYTES, SIGNATURE_BYTES
from omninode.dex.bridge.deposits import LogEntry, StakeChange
from omninode.dex.bridge.limits import ATTESTED_DEPOSITS_MAX, ATTESTED_IDENTITY_BYTES_MAX
from omninode.dex.decimals import DECIMAL_CHARS_MAX, POSITIVE_PATTERN
from omninode.dex.staking.statements import (
    AuditProbe,
    CommitAudits,
    ReportEvidence,
    RevealAudits,
    Synced,
)

SUBACCOUNT_MAX: Final = 999
NAME_CHARS_MAX: Final = 32
CLIENT_ID_CHARS_MAX: Final = 36
"""A client id holds a UUID in text."""

BATCH_ITEMS_MAX: Final = 100
"""Cancels, replaces and orders of one batch together."""

PPM: Final = 1_000_000
DEFAULT_SLIPPAGE_PPM: Final = 50_000
"""5 % beyond the best opposite price: the default bound of a market order."""

ORDER_ID_BYTES: Final = 32
AGENT_NAME_CHARS_MAX: Final = 32
TIMESTAMP_MAX: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps exact."""

Side = Literal["buy", "sell"]
OrderType = Literal["limit", "market"]
TimeInForce = Literal["gtc", "ioc", "fok"]
Permission = Literal["trade", "cancel", "transfer"]
PERMISSIONS: Final[tuple[Permission, ...]] = get_args(Permission)

Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
Hash = Annotated[bytes, msgspec.Meta(min_length=HASH_BYTES, max_length=HASH_BYTES)]
Subaccount = Annotated[int, msgspec.Meta(ge=0, le=SUBACCOUNT_MAX)]
TimestampMs = Annotated[int, msgspec.Meta(ge=0, le=TIMESTAMP_MAX)]
Positive = Annotated[str, msgspec.Meta(max_length=DECIMAL_CHARS_MAX, pattern=POSITIVE_PATTERN)]
PositiveOrNone = Annotated[
    str, msgspec.Meta(max_length=DECIMAL_CHARS_MAX, pattern=rf"\A\Z|{POSITIVE_PATTERN}")
]
Name = Annotated[str, msgspec.Meta(max_length=NAME_CHARS_MAX, pattern=r"\A[A-Z0-9][A-Z0-9.\-]*\Z")]
NameOrAll = Annotated[
    str, msgspec.Meta(max_length=NAME_CHARS_MAX, pattern=r"\A\Z|\A[A-Z0-9][A-Z0-9.\-]*\Z")
]
ClientId = Annotated[
    str, msgspec.Meta(max_length=CLIENT_ID_CHARS_MAX, pattern=r"\A[A-Za-z0-9_.:\-]*\Z")
]
AgentName = Annotated[
    str,
    msgspec.Meta(max_length=AGENT_NAME_CHARS_MAX, pattern=r"\A(?:[!-~](?:[ -~]*[!-~])?)?\Z"),
]
OrderIdOrNone = Annotated[bytes, msgspec.Meta(max_length=ORDER_ID_BYTES)]


def _check_names_one_order(order_id: bytes, client_id: str) -> None:
    """Refuse an order named twice, not at all, or by an id of the wrong length."""
    if bool(order_id) == bool(client_id):
        raise ValueError("name the order by order_id or by client_id, exactly one of them")
    if order_id and len(order_id) != ORDER_ID_BYTES:
        raise ValueError(f"order_id has {ORDER_ID_BYTES} bytes, not {len(order_id)}")


class PlaceOrder(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Place a limit or market order.

    A market order has no price; it takes up to `slippage_ppm` beyond the best opposite price and
    never rests. `size` is in base asset, `price` in quote asset per base asset.
    """

    subaccount: Subaccount
    market: Name
    side: Side
    order_type: OrderType
    size: Positive
    price: PositiveOrNone
    tif: TimeInForce
    post_only: bool
    slippage_ppm: Annotated[int, msgspec.Meta(ge=0, le=PPM)]
    client_id: ClientId

    def __post_init__(self) -> None:
        """Refuse fields that do not go together (A4)."""
        if self.order_type == "limit":
            if not self.price:
                raise ValueError("a limit order needs a price")
            if self.slippage_ppm:
                raise ValueError("slippage_ppm is for market orders, a limit order has its price")
        else:
            if self.price:
                raise ValueError("a market order has slippage_ppm instead of a price")
            if not self.slippage_ppm:
                raise ValueError("a market order needs slippage_ppm of at least 1")
            if self.tif == "gtc":
                raise ValueError("a market order never rests: tif is ioc or fok")
        if self.post_only and self.tif != "gtc":
            raise ValueError("post_only needs tif gtc")


class CancelOrder(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Cancel one open order of a subaccount, named by order id or by client id."""

    subaccount: Subaccount
    order_id: OrderIdOrNone
    client_id: ClientId

    def __post_init__(self) -> None:
        """Refuse anything but one name (A3)."""
        _check_names_one_order(self.order_id, self.client_id)


class CancelAll(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Cancel all open orders of a subaccount, in one market or, with an empty name, in all."""

    subaccount: Subaccount
    market: NameOrAll


class ReplaceOrder(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Give an open limit order a new size and price; its id, side and time in force stay.

    `size` is the new total size, what is already filled included, so that a fill on the way does
    not change the meaning.
    """

    subaccount: Subaccount
    market: Name
    order_id: OrderIdOrNone
    client_id: ClientId
    size: Positive
    price: Positive

    def __post_init__(self) -> None:
        """Refuse anything but one name (A3)."""
        _check_names_one_order(self.order_id, self.client_id)


class Transfer(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Move free funds to another account or to another subaccount of one's own."""

    subaccount: Subaccount
    to: Address
    to_subaccount: Subaccount
    asset: Name
    amount: Positive


class ApproveAgent(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Let a session key act for the account until `expires_ms` (block time)."""

    agent: Address
    name: AgentName
    permissions: Annotated[
        tuple[Permission, ...], msgspec.Meta(min_length=1, max_length=len(PERMISSIONS))
    ]
    expires_ms: TimestampMs

    def __post_init__(self) -> None:
        """Refuse permissions out of order or given twice (A3)."""
        if self.permissions != tuple(p for p in PERMISSIONS if p in self.permissions):
            raise ValueError(f"permissions stand in the order {', '.join(PERMISSIONS)}, each once")


class RevokeAgent(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Take back a session key's permissions at once."""

    agent: Address


class Batch(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """Cancels, then replaces, then orders under one signature, each judged on its own."""

    cancels: Annotated[tuple[CancelOrder, ...], msgspec.Meta(max_length=BATCH_ITEMS_MAX)]
    replaces: Annotated[tuple[ReplaceOrder, ...], msgspec.Meta(max_length=BATCH_ITEMS_MAX)]
    orders: Annotated[tuple[PlaceOrder, ...], msgspec.Meta(max_length=BATCH_ITEMS_MAX)]

    def __post_init__(self) -> None:
        """Refuse an empty or an oversized batch."""
        items = len(self.cancels) + len(self.replaces) + len(self.orders)
        if not 1 <= items <= BATCH_ITEMS_MAX:
            raise ValueError(f"a batch has 1 to {BATCH_ITEMS_MAX} items, not {items}")


class Withdraw(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Take free funds out to an address on the settlement chain; only the account's own key may."""

    subaccount: Subaccount
    asset: Name
    amount: Positive
    recipient: Address


class AttestDeposits(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """A validator's word on the contract's deposits: the log up to `count` hashes to `hash`.

    `deposits` are the last of them; the first follows the deposit that `parent` is the hash after.
    Without deposits, `parent` is `hash` and known already.
    """

    parent: Hash
    count: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    hash: Hash
    deposits: Annotated[tuple[LogEntry, ...], msgspec.Meta(max_length=ATTESTED_DEPOSITS_MAX)]

    def __post_init__(self) -> None:
        """Refuse what no log could be (A4)."""
        if len(self.deposits) > self.count:
            raise ValueError(f"{len(self.deposits)} deposits can not end at {self.count}")
        if not self.deposits and self.parent != self.hash:
            raise ValueError("without deposits the parent is the hash itself")
        identities = (d.identity for d in self.deposits if isinstance(d, StakeChange))
        if sum(map(len, identities)) > ATTESTED_IDENTITY_BYTES_MAX:
            raise ValueError(f"more than {ATTESTED_IDENTITY_BYTES_MAX} bytes of identities")


class SignCheckpoint(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """A validator's signature of a checkpoint's EIP-712 digest (`dex.bridge.evm`)."""

    number: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    signature: Annotated[
        bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)
    ]


class SignHandover(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """A signature of a handover's EIP-712 digest by one of the set that hands over."""

    next_epoch: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
    signature: Annotated[
        bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)
    ]


class CommitSealed(msgspec.Struct, frozen=True, array_like=True, tag=18):
    """Promise an order in the sealed lane: only its market and the largest loss are seen.

    `commitment` is `dex.sealed.commitment.make_commitment` of the order. `bond`, in the market's
    quote asset, is held and lost unless the order is revealed in time; it bounds the order's size.
    """

    subaccount: Subaccount
    market: Name
    bond: Positive
    commitment: Hash


class RevealSealed(msgspec.Struct, frozen=True, array_like=True, tag=19):
    """Show the order behind a commitment; `commit` is the hash of the transaction that made it."""

    commit: Hash
    order: PlaceOrder
    salt: Hash

    def __post_init__(self) -> None:
        """Refuse what an auction can not honour (A4)."""
        if self.order.post_only:
            raise ValueError("a sealed order can not be post_only: nothing rests in an auction")
        if self.order.tif == "fok":
            raise ValueError("a sealed order can not be fok: tif is gtc or ioc")


Action = (
    PlaceOrder
    | CancelOrder
    | CancelAll
    | ReplaceOrder
    | Transfer
    | ApproveAgent
    | RevokeAgent
    | Batch
    | Withdraw
    | AttestDeposits
    | SignCheckpoint
    | SignHandover
    | Synced
    | ReportEvidence
    | CommitAudits
    | RevealAudits
    | AuditProbe
    | CommitSealed
    | RevealSealed
)
STAKING_ACTIONS: Final = (Synced, ReportEvidence, CommitAudits, RevealAudits, AuditProbe)
VALIDATOR_ACTIONS: Final[tuple[type[Action], ...]] = (
    AttestDeposits,
    SignCheckpoint,
    SignHandover,
    *STAKING_ACTIONS,
)
