"""EIP-712: what a wallet shows and signs for an action.

Rules (P1)
    S1. The domain is `{name: "OmniNode", version: "1", chainId, salt}`; `chainId` is the settlement
        chain's and `salt` the genesis hash, so a signature counts on one network only.
    S2. The message has the action's own fields under their own names, with `account` and `nonce`
        before them; a wallet shows what will happen, in human numbers.
    S3. Items of a batch, and an order that is revealed, are typed structs of their own, without
        account and nonce.
    S4. What validators sign (`VALIDATOR_ACTIONS`) is no typed data and has no place here.

One table drives the digest and the document for wallets, so they can not drift apart. The digest is
computed with cached type hashes and cached hashes of repeated words (a market, a side, a price); a
general EIP-712 library takes some fifty times as long.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from omninode.crypto import checksum_address, keccak256
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    RevokeAgent,
    Transfer,
    Withdraw,
)
from omninode.dex.limits import TEXT_HASHES_CACHED

DOMAIN_NAME: Final = "OmniNode"
DOMAIN_VERSION: Final = "1"

_SUBACCOUNT: Final = ("subaccount", "uint32")
_ORDER_NAME: Final = (("order_id", "bytes"), ("client_id", "string"))

_HEAD: Final = (("account", "address"), ("nonce", "uint64"))
_DOMAIN_FIELDS: Final = (
    ("name", "string"),
    ("version", "string"),
    ("chainId", "uint256"),
    ("salt", "bytes32"),
)

_FIELDS: Final[dict[type[Any], tuple[tuple[str, str], ...]]] = {
    PlaceOrder: (
        _SUBACCOUNT,
        ("market", "string"),
        ("side", "string"),
        ("order_type", "string"),
        ("size", "string"),
        ("price", "string"),
        ("tif", "string"),
        ("post_only", "bool"),
        ("slippage_ppm", "uint32"),
        ("client_id", "string"),
    ),
    CancelOrder: (_SUBACCOUNT, *_ORDER_NAME),
    CancelAll: (_SUBACCOUNT, ("market", "string")),
    ReplaceOrder: (
        _SUBACCOUNT,
        ("market", "string"),
        *_ORDER_NAME,
        ("size", "string"),
        ("price", "string"),
    ),
    Transfer: (
        _SUBACCOUNT,
        ("to", "address"),
        ("to_subaccount", "uint32"),
        ("asset", "string"),
        ("amount", "string"),
    ),
    ApproveAgent: (
        ("agent", "address"),
        ("name", "string"),
        ("permissions", "string[]"),
        ("expires_ms", "uint64"),
    ),
    RevokeAgent: (("agent", "address"),),
    Withdraw: (
        _SUBACCOUNT,
        ("asset", "string"),
        ("amount", "string"),
        ("recipient", "address"),
    ),
    Batch: (("cancels", "Cancel[]"), ("replaces", "Replace[]"), ("orders", "Order[]")),
    CommitSealed: (
        _SUBACCOUNT,
        ("market", "string"),
        ("bond", "string"),
        ("commitment", "bytes32"),
    ),
    RevealSealed: (("commit", "bytes32"), ("order", "Order"), ("salt", "bytes32")),
}

_ITEMS: Final[dict[str, type[Any]]] = {
    "Cancel": CancelOrder,
    "Order": PlaceOrder,
    "Replace": ReplaceOrder,
}
"""Names of the structs inside others (S3), in the alphabetical order that EIP-712 asks for."""

_INNER: Final[dict[type[Any], tuple[str, ...]]] = {
    Batch: tuple(_ITEMS),
    RevealSealed: ("Order",),
}
"""Which of them an action has."""


def _encode_type(name: str, fields: tuple[tuple[str, str], ...]) -> str:
    return f"{name}({','.join(f'{kind} {field}' for field, kind in fields)})"


@lru_cache(maxsize=TEXT_HASHES_CACHED)
def _hash_text(text: str) -> bytes:
    return keccak256(text.encode())


def _encode_integer(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _encode_address(value: bytes) -> bytes:
    return bytes(12) + value


def _encode_texts(values: tuple[str, ...]) -> bytes:
    return keccak256(b"".join(map(_hash_text, values)))


_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "string": _hash_text,
    "bytes": keccak256,
    "string[]": _encode_texts,
    "address": _encode_address,
    "bool": _encode_integer,
    "uint32": _encode_integer,
    "uint64": _encode_integer,
    "bytes32": bytes,
}


class _Layout(NamedTuple):
    """How to hash one struct: its type hash, a reader of all its fields, an encoder for each."""

    type_hash: bytes
    read: Callable[[Any], tuple[Any, ...]]
    encoders: tuple[Callable[[Any], bytes], ...]


def _reader(fields: tuple[tuple[str, str], ...]) -> Callable[[Any], tuple[Any, ...]]:
    names = [name for name, _ in fields]
    read = operator.attrgetter(*names)
    if len(names) == 1:
        return lambda value: (read(value),)
    return read


def _item_layout(name: str) -> _Layout:
    fields = _FIELDS[_ITEMS[name]]
    encoders = tuple(_ENCODERS[kind] for _, kind in fields)
    return _Layout(keccak256(_encode_type(name, fields).encode()), _reader(fields), encoders)


def _hash_struct(layout: _Layout, head: bytes, value: msgspec.Struct) -> bytes:
    words = map(operator.call, layout.encoders, layout.read(value))
    return keccak256(b"".join((layout.type_hash, head, *words)))


def _items_encoder(layout: _Layout) -> Callable[[tuple[Any, ...]], bytes]:
    def encode_items(values: tuple[Any, ...]) -> bytes:
        return keccak256(b"".join([_hash_struct(layout, b"", value) for value in values]))

    return encode_items


def _item_encoder(layout: _Layout) -> Callable[[Any], bytes]:
    def encode_item(value: msgspec.Struct) -> bytes:
        return _hash_struct(layout, b"", value)

    return encode_item


_ENCODERS.update({f"{name}[]": _items_encoder(_item_layout(name)) for name in _ITEMS})
_ENCODERS.update({name: _item_encoder(_item_layout(name)) for name in _ITEMS})


def _action_layout(action: type[Any]) -> _Layout:
    fields = _FIELDS[action]
    text = _encode_type(action.__name__, (*_HEAD, *fields))
    text += "".join(_encode_type(name, _FIELDS[_ITEMS[name]]) for name in _INNER.get(action, ()))
    encoders = tuple(_ENCODERS[kind] for _, kind in fields)
    return _Layout(keccak256(text.encode()), _reader(fields), encoders)


_LAYOUTS: Final = {action: _action_layout(action) for action in _FIELDS}


class Domain(msgspec.Struct, frozen=True, dict=True):
    """The network a signature is for (S1).

    Args:
        chain_id: EIP-155 id of the settlement chain.
        genesis_hash: Hash of the network's canonical genesis.
    """

    chain_id: int
    genesis_hash: bytes

    @cached_property
    def separator(self) -> bytes:
        """The EIP-712 domain separator."""
        return keccak256(
            keccak256(_encode_type("EIP712Domain", _DOMAIN_FIELDS).encode())
            + _hash_text(DOMAIN_NAME)
            + _hash_text(DOMAIN_VERSION)
            + _encode_integer(self.chain_id)
            + self.genesis_hash
        )

    @cached_property
    def prefix(self) -> bytes:
        """What stands before the struct's hash in every signed digest."""
        return b"\x19\x01" + self.separator


def wallet_digest(action: Action, *, account: bytes, nonce: int, domain: Domain) -> bytes:
    """Return the EIP-712 digest that the account's wallet signs for an action."""
    head = _encode_address(account) + _encode_integer(nonce)
    return keccak256(domain.prefix + _hash_struct(_LAYOUTS[type(action)], head, action))


def typed_data(action: Action, *, account: bytes, nonce: int, domain: Domain) -> dict[str, Any]:
    """Return the EIP-712 document for `eth_signTypedData_v4`; its digest is `wallet_digest`'s.

    The document is plain JSON: addresses with checksum, bytes as 0x hex, integers as numbers.
    """
    name = type(action).__name__
    types = {"EIP712Domain": _DOMAIN_FIELDS, name: (*_HEAD, *_FIELDS[type(action)])}
    types.update({item: _FIELDS[_ITEMS[item]] for item in _INNER.get(type(action), ())})
    message = {"account": checksum_address(account), "nonce": nonce, **_fields_to_json(action)}
    return {
        "types": {
            type_name: [{"name": field, "type": kind} for field, kind in fields]
            for type_name, fields in types.items()
        },
        "primaryType": name,
        "domain": {
            "name": DOMAIN_NAME,
            "version": DOMAIN_VERSION,
            "chainId": domain.chain_id,
            "salt": "0x" + domain.genesis_hash.hex(),
        },
        "message": message,
    }


def _fields_to_json(value: msgspec.Struct) -> dict[str, Any]:
    fields = _FIELDS[type(value)]
    return {name: _value_to_json(getattr(value, name), kind) for name, kind in fields}


def _value_to_json(value: object, kind: str) -> object:
    match value:
        case bytes():
            return checksum_address(value) if kind == "address" else "0x" + value.hex()
        case msgspec.Struct():
            return _fields_to_json(value)
        case tuple():
            return [
                _fields_to_json(item) if isinstance(item, msgspec.Struct) else item
                for item in value
            ]
        case _:
            return value
