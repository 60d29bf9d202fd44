"""A signed transaction: its bytes, hash and signer, and what can be judged without any state.

Rules
    X1. On the wire a transaction is the canonical array `[version, scheme, account, nonce, action,
        signature]`. The signature is last, so the signed bytes are the unsigned prefix, `c4 41`
        and 65 signature bytes.
    X2. `hash` is keccak256 of the signed bytes; an order's id is a tagged hash of that and its
        index among the transaction's orders.
    X3. Scheme 0: the account's own key signed the EIP-712 digest. Scheme 1: a session key signed
        a tagged hash that binds the genesis hash and the unsigned prefix; whether that key may
        act is judged in execution (P4). The account's own key signs by scheme 0 only, so a wallet
        never has to sign what it can not show.
    X4. A nonce is a millisecond timestamp, used once per (account, signer).
    X5. Scheme 2: a validator's vote key signed a tagged hash of its own (P1). It carries
        `VALIDATOR_ACTIONS`, which come by no other scheme; whether the account is a validator is
        judged in execution.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Final, NamedTuple, Protocol

import msgspec

from omninode.crypto import (
    ADDRESS_BYTES,
    SIGNATURE_BYTES,
    SigningKey,
    checksum_address,
    keccak256,
    recover_address,
    tagged_hash,
)
from omninode.dex.actions import (
    VALIDATOR_ACTIONS,
    Action,
    Address,
    AttestDeposits,
    Batch,
    CancelAll,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    SignCheckpoint,
    SignHandover,
    TimestampMs,
    Transfer,
    Withdraw,
)
from omninode.dex.decimals import OffGrid, parse_steps, parse_units
from omninode.dex.eip712 import Domain, wallet_digest
from omninode.encoding import decode, encode
from omninode.errors import BrokenInvariant, Malformed, Rejected

TRANSACTION_VERSION: Final = 1
TRANSACTION_BYTES_MAX: Final = 32_768
"""A batch of `BATCH_ITEMS_MAX` orders with the longest fields fits."""

SCHEME_WALLET: Final = 0
SCHEME_AGENT: Final = 1
SCHEME_VALIDATOR: Final = 2
_ARRAY_OF_SIX: Final = b"\x96"
_SIGNATURE_HEADER: Final = b"\xc4\x41"
SIGNATURE_FIELD_BYTES: Final = len(_SIGNATURE_HEADER) + SIGNATURE_BYTES


class Transaction(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """One signed transaction (X1). `raw`, `hash` and `signer` are kept beside the fields."""

    version: Annotated[int, msgspec.Meta(ge=TRANSACTION_VERSION, le=TRANSACTION_VERSION)]
    scheme: Annotated[int, msgspec.Meta(ge=SCHEME_WALLET, le=SCHEME_VALIDATOR)]
    account: Address
    nonce: TimestampMs
    action: Action
    signature: Annotated[
        bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)
    ]

    def __post_init__(self) -> None:
        """Refuse an action by a scheme that does not carry it (X5)."""
        if (self.scheme == SCHEME_VALIDATOR) is not (type(self.action) in VALIDATOR_ACTIONS):
            kind = type(self.action).__name__
            raise ValueError(f"scheme {self.scheme} does not carry {kind}")

    @cached_property
    def raw(self) -> bytes:
        """The signed bytes."""
        return encode(self)

    @cached_property
    def hash(self) -> bytes:
        """The transaction's id (X2)."""
        return keccak256(self.raw)

    @property
    def unsigned(self) -> bytes:
        """The bytes before the signature field (X1)."""
        return self.raw[:-SIGNATURE_FIELD_BYTES]

    @property
    def signer(self) -> bytes:
        """The address whose key signed, once `set_signer` has recorded it.

        Raises:
            BrokenInvariant: The signature was never checked.
        """
        signer: bytes | None = self.__dict__.get("_signer")
        if signer is None:
            raise BrokenInvariant(f"transaction 0x{self.hash.hex()} was used before its signature")
        return signer

    @property
    def is_verified(self) -> bool:
        """Whether the signature was checked and `signer` is known."""
        return "_signer" in self.__dict__

    def set_signer(self, address: bytes) -> None:
        """Record the result of the signature check, so that it is made once."""
        self.__dict__["_signer"] = address


def decode_transaction(raw: bytes) -> Transaction:
    """Decode signed bytes; the signature is not checked here.

    Raises:
        Malformed: Too long, not canonical, an unknown version or scheme, or an ill-formed field.
    """
    transaction = decode(raw, Transaction, size_max=TRANSACTION_BYTES_MAX)
    transaction.__dict__["raw"] = raw
    return transaction


def encode_unsigned(scheme: int, *, account: bytes, nonce: int, action: Action) -> bytes:
    """Return the bytes that precede the signature field (X1).

    With `c4 41` and 65 signature bytes behind them they are the transaction.
    """
    fields = encode((TRANSACTION_VERSION, scheme, account, nonce, action))
    return _ARRAY_OF_SIX + fields[1:]


def signing_digest(transaction: Transaction, domain: Domain) -> bytes:
    """Return the digest that the transaction's signature must be over (X3)."""
    if transaction.scheme == SCHEME_WALLET:
        return wallet_digest(
            transaction.action,
            account=transaction.account,
            nonce=transaction.nonce,
            domain=domain,
        )
    if transaction.scheme == SCHEME_VALIDATOR:
        return attestation_digest(transaction.unsigned, domain)
    return agent_digest(transaction.unsigned, domain)


def agent_digest(unsigned: bytes, domain: Domain) -> bytes:
    """Return what a session key signs for the unsigned bytes of a transaction (X3)."""
    return tagged_hash("omni/transaction/1", domain.genesis_hash, unsigned)


def attestation_digest(unsigned: bytes, domain: Domain) -> bytes:
    """Return what a validator's vote key signs for the unsigned bytes of a transaction (X5)."""
    return tagged_hash("omni/attestation/1", domain.genesis_hash, unsigned)


def recover_signer(transaction: Transaction, domain: Domain) -> bytes:
    """Return the address that signed and record it in the transaction.

    Raises:
        Rejected: `bad_signature`: high s, a wrong v, no such key, or not the key of its scheme.
    """
    try:
        signer = recover_address(signing_digest(transaction, domain), transaction.signature)
    except Malformed as error:
        raise Rejected("bad_signature", str(error)) from None
    if transaction.scheme == SCHEME_WALLET and signer != transaction.account:
        raise Rejected(
            "bad_signature",
            f"signed by {checksum_address(signer)}, not by {checksum_address(transaction.account)}",
            hint="sign the document of omni_getTypedData for this account and this network",
        )
    if transaction.scheme == SCHEME_VALIDATOR and signer != transaction.account:
        raise Rejected("bad_signature", "not signed by the vote key of the validator it names")
    if transaction.scheme == SCHEME_AGENT and signer == transaction.account:
        raise Rejected("bad_signature", "the account's own key signs typed data (scheme 0)")
    transaction.set_signer(signer)
    return signer


def sign_wallet(key: SigningKey, action: Action, *, nonce: int, domain: Domain) -> Transaction:
    """Sign an action with the account's own key, as its wallet would."""
    digest = wallet_digest(action, account=key.address, nonce=nonce, domain=domain)
    transaction = Transaction(
        version=TRANSACTION_VERSION,
        scheme=SCHEME_WALLET,
        account=key.address,
        nonce=nonce,
        action=action,
        signature=key.sign(digest),
    )
    transaction.set_signer(key.address)
    return transaction


def sign_agent(
    key: SigningKey, action: Action, *, account: bytes, nonce: int, domain: Domain
) -> Transaction:
    """Sign an action for `account` with a session key that the account has approved."""
    unsigned = encode_unsigned(SCHEME_AGENT, account=account, nonce=nonce, action=action)
    transaction = Transaction(
        version=TRANSACTION_VERSION,
        scheme=SCHEME_AGENT,
        account=account,
        nonce=nonce,
        action=action,
        signature=key.sign(agent_digest(unsigned, domain)),
    )
    transaction.set_signer(key.address)
    return transaction


def sign_validator(key: SigningKey, action: Action, *, nonce: int, domain: Domain) -> Transaction:
    """Sign one of `VALIDATOR_ACTIONS` with a validator's vote key (X5)."""
    unsigned = encode_unsigned(SCHEME_VALIDATOR, account=key.address, nonce=nonce, action=action)
    transaction = Transaction(
        version=TRANSACTION_VERSION,
        scheme=SCHEME_VALIDATOR,
        account=key.address,
        nonce=nonce,
        action=action,
        signature=key.sign(attestation_digest(unsigned, domain)),
    )
    transaction.set_signer(key.address)
    return transaction


def order_id(transaction_hash: bytes, index: int) -> bytes:
    """Return the id of the order at `index` among a transaction's orders (0 for a single order)."""
    return tagged_hash("omni/order/1", transaction_hash, index.to_bytes(4, "big"))


class MarketRules(Protocol):
    """The grid of one market, as genesis fixes it."""

    @property
    def price_decimals(self) -> int:
        """Prices are integer units of 10**-price_decimals quote asset per base asset."""

    @property
    def tick(self) -> int:
        """Smallest price step, in price units."""

    @property
    def size_decimals(self) -> int:
        """Sizes are integer units of 10**-size_decimals base asset."""

    @property
    def lot(self) -> int:
        """Smallest size step, in size units."""


class Rules(Protocol):
    """What genesis fixes and a transaction can be checked against without any state."""

    def market_rules(self, name: str) -> MarketRules | None:
        """Return a market's grid, or None if there is no such market."""

    def asset_decimals(self, name: str) -> int | None:
        """Return an asset's decimals, or None if there is no such asset."""

    def asset_token(self, name: str) -> bytes | None:
        """Return an asset's token on the settlement chain, or None if it has none."""

    @property
    def settlement_contract(self) -> bytes | None:
        """Address of the contract, or None if the network settles nowhere."""


def check_stateless(transaction: Transaction, rules: Rules) -> None:
    """Refuse what no state of the exchange could make succeed.

    Args:
        transaction: A decoded transaction.
        rules: Markets and assets of genesis.

    Raises:
        Rejected: `unknown_market`, `unknown_asset`, `off_tick`, `off_lot`, `off_grid`, `malformed`
            (a number too large), `same_account`, `no_settlement`, `not_withdrawable` or
            `invalid_recipient`.
    """
    match transaction.action:
        case PlaceOrder() as order:
            _check_grid(order.market, size=order.size, price=order.price, rules=rules)
        case ReplaceOrder() as replace:
            _check_grid(replace.market, size=replace.size, price=replace.price, rules=rules)
        case CancelAll(market=market) if market:
            _market(market, rules)
        case Transfer() as transfer:
            _check_transfer(transfer, transaction.account, rules)
        case Withdraw() as withdraw:
            check_withdrawal(withdraw, rules)
        case AttestDeposits() | SignCheckpoint() | SignHandover():
            _settlement_contract(rules)
        case CommitSealed(market=market):
            _market(market, rules)
        case RevealSealed(order=order):
            _check_grid(order.market, size=order.size, price=order.price, rules=rules)
        case Batch() as batch:
            items: tuple[PlaceOrder | ReplaceOrder, ...] = batch.replaces + batch.orders
            for item in items:
                _check_grid(item.market, size=item.size, price=item.price, rules=rules)
        case _:
            pass


def _market(name: str, rules: Rules) -> MarketRules:
    market = rules.market_rules(name)
    if market is None:
        raise Rejected("unknown_market", f"there is no market {name}")
    return market


def _check_grid(name: str, *, size: str, price: str, rules: Rules) -> None:
    """Check one order's size and price against its market's grid; a market order has no price."""
    market = _market(name, rules)
    try:
        parse_steps(size, market.size_decimals, market.lot)
    except OffGrid as error:
        raise Rejected("off_lot", f"size of {name}: {error}") from None
    except Malformed as error:
        raise Rejected("malformed", f"size of {name}: {error}") from None
    if not price:
        return
    try:
        parse_steps(price, market.price_decimals, market.tick)
    except OffGrid as error:
        raise Rejected("off_tick", f"price of {name}: {error}") from None
    except Malformed as error:
        raise Rejected("malformed", f"price of {name}: {error}") from None


def _check_transfer(transfer: Transfer, account: bytes, rules: Rules) -> None:
    decimals = rules.asset_decimals(transfer.asset)
    if decimals is None:
        raise Rejected("unknown_asset", f"there is no asset {transfer.asset}")
    if transfer.to == account and transfer.to_subaccount == transfer.subaccount:
        raise Rejected("same_account", "a transfer to the subaccount it comes from")
    try:
        parse_units(transfer.amount, decimals)
    except Malformed as error:
        raise Rejected("malformed", f"amount of {transfer.asset}: {error}") from None


class WithdrawalTerms(NamedTuple):
    """A checked withdrawal: the token and its base units."""

    token: bytes
    amount: int


def check_withdrawal(withdraw: Withdraw, rules: Rules) -> WithdrawalTerms:
    """Check a withdrawal against genesis.

    Raises:
        Rejected: `no_settlement`, `unknown_asset`, `not_withdrawable` (the asset has no token),
            `invalid_recipient`, `off_grid` or `malformed`.
    """
    contract = _settlement_contract(rules)
    decimals = rules.asset_decimals(withdraw.asset)
    if decimals is None:
        raise Rejected("unknown_asset", f"there is no asset {withdraw.asset}")
    token = rules.asset_token(withdraw.asset)
    if token is None:
        raise Rejected("not_withdrawable", f"{withdraw.asset} has no token on the settlement chain")
    if withdraw.recipient in (bytes(ADDRESS_BYTES), contract, token):
        raise Rejected("invalid_recipient", "nobody could ever move funds sent to that address")
    try:
        return WithdrawalTerms(token, parse_units(withdraw.amount, decimals))
    except Malformed as error:
        raise Rejected("malformed", f"amount of {withdraw.asset}: {error}") from None


def _settlement_contract(rules: Rules) -> bytes:
    contract = rules.settlement_contract
    if contract is None:
        raise Rejected("no_settlement", "the network has no settlement chain")
    return contract
