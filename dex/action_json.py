"""Actions as JSON: what the command line and `omni_getTypedData` take and show.

Rules
    J1. The document is one flat object: `type`, `account`, `nonce` and the action's own fields
        under their own names; the items of a batch, and an order that is revealed, are objects
        without those three.
    J2. Every key is checked: an unknown one, a missing one without default and a value of the
        wrong kind are refused with the key's name and what was expected. Nothing is rounded or
        clamped.
    J3. Addresses are 0x hex, with a right checksum or none; numbers with units are canonical
        decimal text (D1 of `dex.decimals`); byte strings are 0x hex.
    J4. What validators say (`VALIDATOR_ACTIONS`) is shown and not read: nodes make it themselves.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from omninode.crypto import ADDRESS_BYTES, checksum_address, parse_address
from omninode.dex.actions import (
    BATCH_ITEMS_MAX,
    CLIENT_ID_CHARS_MAX,
    DEFAULT_SLIPPAGE_PPM,
    PERMISSIONS,
    PPM,
    STAKING_ACTIONS,
    SUBACCOUNT_MAX,
    TIMESTAMP_MAX,
    Action,
    ApproveAgent,
    AttestDeposits,
    Batch,
    CancelAll,
    CancelOrder,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    RevokeAgent,
    SignCheckpoint,
    SignHandover,
    Transfer,
    Withdraw,
)
from omninode.dex.bridge.deposits import LogEntry, StakeChange
from omninode.dex.eip712 import Domain, typed_data
from omninode.dex.staking.documents import plain
from omninode.dex.staking.statements import (
    AuditProbe,
    CommitAudits,
    ReportEvidence,
    RevealAudits,
    Synced,
)
from omninode.dex.transaction import SCHEME_WALLET, encode_unsigned
from omninode.encoding import amount_from_bytes
from omninode.errors import Malformed, UserError

_REQUIRED: Final = object()
_VALUE_CHARS_SHOWN: Final = 60

_AMOUNT: Final = 'a positive decimal number as text, such as "1.25", without needless zeros'
_NAME: Final = 'a name such as "BTC-USDC"'
_CLIENT_ID: Final = f"up to {CLIENT_ID_CHARS_MAX} letters, digits and _ . : -"
_TIMESTAMP: Final = f"milliseconds since the epoch, an integer from 0 to {TIMESTAMP_MAX}"
_SUBACCOUNT: Final = f"an integer from 0 to {SUBACCOUNT_MAX}"
_ADDRESS: Final = "an address, 0x and 40 hex digits, with a right checksum or none"


class Request(NamedTuple):
    """An action with who asks and when: all that is signed."""

    account: bytes
    nonce: int
    action: Action


class _Field(NamedTuple):
    """One key of the JSON form."""

    expected: str
    default: object = _REQUIRED
    read: Callable[[Any], object] = lambda value: value


def _read_address(value: object) -> object:
    try:
        return parse_address(value) if isinstance(value, str) else None
    except Malformed:
        return None


def _read_order_id(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch("(0x([0-9a-fA-F]{64})?)?", value):
        return None
    return bytes.fromhex(value[2:])


def _read_permissions(value: object) -> object:
    """Put a set of words into the one order that is signed; anything else is left to be refused."""
    if not isinstance(value, list) or sorted(map(repr, value)) != sorted(set(map(repr, value))):
        return None
    if not all(word in PERMISSIONS for word in value):
        return None
    return [word for word in PERMISSIONS if word in value]


def _read_hash(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch("0x[0-9a-fA-F]{64}", value):
        return None
    return bytes.fromhex(value[2:])


_HASH: Final = "0x and 64 hex digits"
_IN_SUBACCOUNT: Final = {"subaccount": _Field(_SUBACCOUNT, default=0)}
_ORDER_NAME: Final = {
    "order_id": _Field("0x and 64 hex digits, or empty", default="", read=_read_order_id),
    "client_id": _Field(_CLIENT_ID, default=""),
}
_HEAD: Final = {
    "account": _Field(_ADDRESS, read=_read_address),
    "nonce": _Field(_TIMESTAMP),
}

_FIELDS: Final[dict[type[Any], dict[str, _Field]]] = {
    PlaceOrder: {
        **_IN_SUBACCOUNT,
        "market": _Field(_NAME),
        "side": _Field("buy or sell"),
        "order_type": _Field("limit or market", default="limit"),
        "size": _Field(_AMOUNT),
        "price": _Field(_AMOUNT + "; empty for a market order", default=""),
        "tif": _Field("gtc, ioc or fok", default="gtc"),
        "post_only": _Field("true or false", default=False),
        "slippage_ppm": _Field(f"an integer from 0 to {PPM}", default=0),
        "client_id": _Field(_CLIENT_ID, default=""),
    },
    CancelOrder: {**_IN_SUBACCOUNT, **_ORDER_NAME},
    CancelAll: {**_IN_SUBACCOUNT, "market": _Field(_NAME + ", or empty for all", default="")},
    ReplaceOrder: {
        **_IN_SUBACCOUNT,
        "market": _Field(_NAME),
        **_ORDER_NAME,
        "size": _Field(_AMOUNT),
        "price": _Field(_AMOUNT),
    },
    Transfer: {
        **_IN_SUBACCOUNT,
        "to": _Field(_ADDRESS, read=_read_address),
        "to_subaccount": _Field(_SUBACCOUNT, default=0),
        "asset": _Field('a name such as "USDC"'),
        "amount": _Field(_AMOUNT),
    },
    ApproveAgent: {
        "agent": _Field(_ADDRESS, read=_read_address),
        "name": _Field("up to 32 printable ASCII characters, no space at the ends", default=""),
        "permissions": _Field(
            f"a list of some of {', '.join(PERMISSIONS)}, each once", read=_read_permissions
        ),
        "expires_ms": _Field(_TIMESTAMP),
    },
    RevokeAgent: {"agent": _Field(_ADDRESS, read=_read_address)},
    Withdraw: {
        **_IN_SUBACCOUNT,
        "asset": _Field('a name such as "USDC"'),
        "amount": _Field(_AMOUNT),
        "recipient": _Field(_ADDRESS, read=_read_address),
    },
    Batch: {name: _Field("a list", default=()) for name in ("cancels", "replaces", "orders")},
    CommitSealed: {
        **_IN_SUBACCOUNT,
        "market": _Field(_NAME),
        "bond": _Field(_AMOUNT),
        "commitment": _Field(_HASH, read=_read_hash),
    },
    RevealSealed: {
        "commit": _Field(_HASH, read=_read_hash),
        "order": _Field("an order, as an item of a batch"),
        "salt": _Field(_HASH, read=_read_hash),
    },
}

_ACTIONS: Final[dict[str, type[Any]]] = {
    "place_order": PlaceOrder,
    "cancel_order": CancelOrder,
    "cancel_all": CancelAll,
    "replace_order": ReplaceOrder,
    "transfer": Transfer,
    "approve_agent": ApproveAgent,
    "revoke_agent": RevokeAgent,
    "batch": Batch,
    "withdraw": Withdraw,
    "commit_sealed": CommitSealed,
    "reveal_sealed": RevealSealed,
}
_NAMES: Final[dict[type[Any], str]] = {
    **{kind: name for name, kind in _ACTIONS.items()},
    AttestDeposits: "attest_deposits",
    SignCheckpoint: "sign_checkpoint",
    SignHandover: "sign_handover",
    Synced: "synced",
    ReportEvidence: "report_evidence",
    CommitAudits: "commit_audits",
    RevealAudits: "reveal_audits",
    AuditProbe: "audit_probe",
}
_ITEMS: Final[dict[str, type[Any]]] = {
    "cancels": CancelOrder,
    "replaces": ReplaceOrder,
    "orders": PlaceOrder,
}


def action_from_json(document: object) -> Request:
    """Read the JSON form of an action.

    Args:
        document: The decoded JSON value.

    Returns:
        The action with its account and nonce, well formed (A4 of `dex.actions`).

    Raises:
        UserError: `malformed`, with every unknown or missing key named (J2).
    """
    if not isinstance(document, Mapping):
        raise _malformed(f"an action is a JSON object, not {_show(document)}")
    word = document.get("type")
    kind = _ACTIONS.get(word) if isinstance(word, str) else None
    if kind is None:
        raise _malformed(f"type: expected one of {', '.join(_ACTIONS)}; got {_show(word)}")
    fields = {"type": _Field(""), **_HEAD, **_FIELDS[kind]}
    _check_keys(document, fields, where="")
    account, nonce = (_read(document, name, field, where="") for name, field in _HEAD.items())
    if account is None:
        raise _wrong("account", _ADDRESS, document["account"])
    if isinstance(nonce, bool) or not isinstance(nonce, int) or not 0 <= nonce <= TIMESTAMP_MAX:
        raise _wrong("nonce", _TIMESTAMP, nonce)
    own = {key: value for key, value in document.items() if key not in ("type", *_HEAD)}
    if kind is RevealSealed:
        own["order"] = _item_from_json(PlaceOrder, own["order"], where="order")
    action = _batch_from_json(own) if kind is Batch else _struct_from_json(kind, own, where="")
    return Request(account=account, nonce=nonce, action=action)  # type: ignore[arg-type]


def action_to_json(account: bytes, nonce: int, action: Action) -> dict[str, Any]:
    """Return the JSON form of an action, all keys given; `action_from_json` reads it back (J4)."""
    head = {
        "type": _NAMES[type(action)],
        "account": checksum_address(account),
        "nonce": nonce,
    }
    if isinstance(action, Batch):
        items = {name: [_to_json(item) for item in getattr(action, name)] for name in _ITEMS}
        return {**head, **items}
    if isinstance(action, AttestDeposits):
        return {**head, **_attestation_to_json(action)}
    if isinstance(action, SignCheckpoint):
        return {**head, "number": action.number, "signature": "0x" + action.signature.hex()}
    if isinstance(action, SignHandover):
        signature = "0x" + action.signature.hex()
        return {**head, "next_epoch": action.next_epoch, "signature": signature}
    if isinstance(action, STAKING_ACTIONS):
        return {**head, **plain(action)}
    return {**head, **_to_json(action)}


def _attestation_to_json(action: AttestDeposits) -> dict[str, Any]:
    """Return the fields of an attestation; amounts are in the tokens' base units."""
    return {
        "parent": "0x" + action.parent.hex(),
        "count": action.count,
        "hash": "0x" + action.hash.hex(),
        "deposits": [_log_entry_to_json(deposit) for deposit in action.deposits],
    }


def _log_entry_to_json(entry: LogEntry) -> dict[str, Any]:
    """Return a deposit or an entry of stake; `kind` is the contract's number."""
    units = str(amount_from_bytes(entry.amount))
    if isinstance(entry, StakeChange):
        return {
            "owner": checksum_address(entry.owner),
            "kind": entry.kind,
            "units": units,
            "identity": "0x" + entry.identity.hex(),
        }
    return {
        "token": checksum_address(entry.token),
        "account": checksum_address(entry.account),
        "subaccount": entry.subaccount,
        "units": units,
    }


def typed_data_from_json(document: object, domain: Domain) -> dict[str, Any]:
    """Return what a wallet needs for an action in JSON form: the EIP-712 document and more.

    Beside the four keys of the document, which wallets read, `unsigned` holds 0x hex of the bytes
    that, followed by `c441` and the 65 bytes of the signature, are the transaction.

    Raises:
        UserError: As `action_from_json`.
    """
    account, nonce, action = action_from_json(document)
    unsigned = encode_unsigned(SCHEME_WALLET, account=account, nonce=nonce, action=action)
    return {
        **typed_data(action, account=account, nonce=nonce, domain=domain),
        "unsigned": "0x" + unsigned.hex(),
    }


def _batch_from_json(document: Mapping[str, Any]) -> Batch:
    lists: dict[str, list[Any]] = {}
    for name in _ITEMS:
        items = document.get(name, [])
        if not isinstance(items, list):
            raise _wrong(name, "a list", items)
        lists[name] = items
    count = sum(map(len, lists.values()))
    if not 1 <= count <= BATCH_ITEMS_MAX:
        raise _malformed(f"a batch has 1 to {BATCH_ITEMS_MAX} items, not {count}")
    read: dict[str, Any] = {
        name: tuple(
            _item_from_json(_ITEMS[name], item, where=f"{name}[{index}]")
            for index, item in enumerate(items)
        )
        for name, items in lists.items()
    }
    return Batch(**read)


def _item_from_json(kind: type[Any], item: object, *, where: str) -> msgspec.Struct:
    if not isinstance(item, Mapping):
        raise _wrong(where, "an object", item)
    _check_keys(item, _FIELDS[kind], where=where + ".")
    return _struct_from_json(kind, item, where=where + ".")


def _struct_from_json(
    kind: type[Any], document: Mapping[str, Any], *, where: str
) -> msgspec.Struct:
    """Build one struct; msgspec checks it and names the place, this names the key."""
    document = _with_market_defaults(kind, document)
    fields = _FIELDS[kind]
    values = [_read(document, name, field, where=where) for name, field in fields.items()]
    try:
        struct: msgspec.Struct = msgspec.convert(
            [kind.__struct_config__.tag, *values], kind, builtin_types=(bytes,)
        )
    except msgspec.ValidationError as error:
        place = re.search(r"`\$\[(\d+)\]", str(error))
        if place is None:
            raise _malformed(f"{where[:-1]}: {error}" if where else str(error)) from None
        name = list(fields)[int(place.group(1)) - 1]
        raise _wrong(where + name, fields[name].expected, document.get(name)) from None
    return struct


def _with_market_defaults(kind: type[Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A market order that says no more is immediate, with the default slippage bound."""
    if kind is PlaceOrder and document.get("order_type") == "market":
        return {"tif": "ioc", "slippage_ppm": DEFAULT_SLIPPAGE_PPM, **document}
    return document


def _read(document: Mapping[str, Any], name: str, field: _Field, *, where: str) -> object:
    value = document.get(name, field.default)
    read = field.read(value)
    if read is None:
        raise _wrong(where + name, field.expected, value)
    return read


def _check_keys(document: Mapping[str, Any], fields: Mapping[str, _Field], *, where: str) -> None:
    unknown = sorted(str(key) for key in document.keys() - fields.keys())
    if unknown:
        names = ", ".join(where + key[:_VALUE_CHARS_SHOWN] for key in unknown[:10])
        raise _malformed(f"unknown: {names}; known are {', '.join(fields)}")
    missing = [
        where + name
        for name, field in fields.items()
        if field.default is _REQUIRED and name not in document
    ]
    if missing:
        raise _malformed(f"missing: {', '.join(missing)}")


def _to_json(value: msgspec.Struct) -> dict[str, Any]:
    return {name: _value_to_json(name, getattr(value, name)) for name in _FIELDS[type(value)]}


def _value_to_json(name: str, value: object) -> object:
    match value:
        case bytes():
            if name == "order_id":
                return "0x" + value.hex() if value else ""
            return checksum_address(value) if len(value) == ADDRESS_BYTES else "0x" + value.hex()
        case PlaceOrder():
            return _to_json(value)
        case tuple():
            return list(value)
        case _:
            return value


def _wrong(name: str, expected: str, value: object) -> UserError:
    return _malformed(f"{name}: expected {expected}; got {_show(value)}")


def _show(value: object) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return "a huge integer"
    text = repr(value)
    return text if len(text) <= _VALUE_CHARS_SHOWN else text[:_VALUE_CHARS_SHOWN] + "…"


def _malformed(message: str) -> UserError:
    return UserError("malformed", message)
