"""Actions: an ill-formed one can neither be built from the wire nor change its meaning there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from omninode.dex.actions import (
    BATCH_ITEMS_MAX,
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    PlaceOrder,
    ReplaceOrder,
    RevokeAgent,
    Transfer,
)
from omninode.encoding import decode, encode
from omninode.errors import Malformed

ORDER: dict[str, Any] = {
    "subaccount": 0,
    "market": "BTC-USDC",
    "side": "buy",
    "order_type": "limit",
    "size": "0.1",
    "price": "78000",
    "tif": "gtc",
    "post_only": False,
    "slippage_ppm": 0,
    "client_id": "",
}
MARKET: dict[str, Any] = {
    **ORDER,
    "order_type": "market",
    "price": "",
    "tif": "ioc",
    "slippage_ppm": 50_000,
}
REPLACE: dict[str, Any] = {
    "subaccount": 0,
    "market": "BTC-USDC",
    "order_id": b"",
    "client_id": "a",
    "size": "1",
    "price": "2",
}
AGENT: dict[str, Any] = {
    "agent": b"a" * 20,
    "name": "bot 1",
    "permissions": ["trade", "cancel"],
    "expires_ms": 5,
}
TRANSFER: dict[str, Any] = {
    "subaccount": 0,
    "to": b"b" * 20,
    "to_subaccount": 1,
    "asset": "USDC",
    "amount": "1.5",
}
CANCEL: dict[str, Any] = {"subaccount": 0, "order_id": b"i" * 32, "client_id": ""}


def read(kind: type[Any], fields: dict[str, Any]) -> Action:
    """Decode an action as it would arrive, from an encoding that checks nothing."""
    wire = encode([kind.__struct_config__.tag, *fields.values()])
    action: Action = decode(wire, Action, size_max=100_000)  # type: ignore[arg-type]
    assert type(action) is kind
    assert encode(action) == wire
    return action


GOOD = [
    (PlaceOrder, ORDER),
    (PlaceOrder, MARKET),
    (PlaceOrder, {**ORDER, "post_only": True, "client_id": "a" * 36, "subaccount": 999}),
    (PlaceOrder, {**MARKET, "tif": "fok", "slippage_ppm": 1_000_000}),
    (CancelOrder, CANCEL),
    (CancelOrder, {**CANCEL, "order_id": b"", "client_id": "x"}),
    (CancelAll, {"subaccount": 0, "market": ""}),
    (CancelAll, {"subaccount": 0, "market": "BTC-USDC"}),
    (ReplaceOrder, REPLACE),
    (Transfer, TRANSFER),
    (ApproveAgent, AGENT),
    (ApproveAgent, {**AGENT, "name": "", "permissions": ["trade", "cancel", "transfer"]}),
    (RevokeAgent, {"agent": b"a" * 20}),
]

BAD = [
    *((PlaceOrder, {**ORDER, "size": size}) for size in ("0", "-1", "NaN", "1e400", "1.0", "")),
    *((PlaceOrder, {**ORDER, "price": price}) for price in ("0", "-1", "inf", "٣", "1\n")),
    *((PlaceOrder, {**ORDER, "size": size}) for size in ("9" * 10_000, "0." + "0" * 38 + "1")),
    *((PlaceOrder, {**ORDER, "size": size}) for size in (1, 1.5, True, None, b"1", ["1"])),
    *((PlaceOrder, {**ORDER, "side": side}) for side in ("Buy", "bid", "buy ", "", 0, "ｂuy")),  # noqa: RUF001
    *((PlaceOrder, {**ORDER, "order_type": kind}) for kind in ("stop", "LIMIT", "")),
    *((PlaceOrder, {**ORDER, "tif": tif}) for tif in ("gtd", "GTC", "")),
    *((PlaceOrder, {**ORDER, "market": name}) for name in ("", "btc-usdc", "A" * 33, "ВTC", "A B")),  # noqa: RUF001
    *((PlaceOrder, {**ORDER, "client_id": name}) for name in ("a" * 37, "a b", "é", "a\n", "<b>")),
    *((PlaceOrder, {**ORDER, "subaccount": number}) for number in (-1, 1_000, True, "0", 1.0)),
    (PlaceOrder, {**ORDER, "price": ""}),
    (PlaceOrder, {**ORDER, "slippage_ppm": 1}),
    (PlaceOrder, {**ORDER, "post_only": True, "tif": "ioc"}),
    (PlaceOrder, {**ORDER, "post_only": 1}),
    (PlaceOrder, {**MARKET, "price": "1"}),
    (PlaceOrder, {**MARKET, "tif": "gtc"}),
    (PlaceOrder, {**MARKET, "post_only": True}),
    *((PlaceOrder, {**MARKET, "slippage_ppm": ppm}) for ppm in (0, -1, 1_000_001)),
    (CancelOrder, {**CANCEL, "client_id": "both"}),
    (CancelOrder, {**CANCEL, "order_id": b""}),
    (CancelOrder, {**CANCEL, "order_id": b"i" * 31}),
    (CancelOrder, {**CANCEL, "order_id": b"i" * 33}),
    (ReplaceOrder, {**REPLACE, "client_id": ""}),
    (ReplaceOrder, {**REPLACE, "price": ""}),
    (ReplaceOrder, {**REPLACE, "size": "0"}),
    (Transfer, {**TRANSFER, "to": b"b" * 19}),
    (Transfer, {**TRANSFER, "amount": "0"}),
    (Transfer, {**TRANSFER, "asset": ""}),
    *((ApproveAgent, {**AGENT, "name": name}) for name in (" a", "a ", "a\n", "é", "a" * 33)),
    *(
        (ApproveAgent, {**AGENT, "permissions": words})
        for words in ([], ["withdraw"], ["cancel", "trade"], ["trade", "trade"], ["trade"] * 9, "t")
    ),
    (ApproveAgent, {**AGENT, "expires_ms": 2**53}),
    (ApproveAgent, {**AGENT, "expires_ms": -1}),
    (RevokeAgent, {"agent": b""}),
]


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_well_formed_actions_come_back_as_they_were(
    kind: type[Any], fields: dict[str, Any]
) -> None:
    read(kind, fields)


@pytest.mark.parametrize(("kind", "fields"), BAD)
def test_ill_formed_actions_do_not_decode(kind: type[Any], fields: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read(kind, fields)


@pytest.mark.parametrize(("kind", "fields"), GOOD)
def test_a_field_too_many_or_too_few_does_not_decode(
    kind: type[Any], fields: dict[str, Any]
) -> None:
    with pytest.raises(Malformed):
        read(kind, {**fields, "more": 0})
    with pytest.raises(Malformed):
        read(kind, dict(list(fields.items())[:-1]))


@pytest.mark.parametrize("tag", [0, 9, -1, "1", None, 2**64])
def test_unknown_actions_do_not_decode(tag: object) -> None:
    with pytest.raises((Malformed, OverflowError)):
        decode(encode([tag, 0, ""]), Action, size_max=100)  # type: ignore[arg-type]


def test_a_batch_has_one_to_a_hundred_items() -> None:
    cancel = CancelOrder(0, b"i" * 32, "")
    order = PlaceOrder(**ORDER)
    full = Batch((cancel,) * (BATCH_ITEMS_MAX - 1), (), (order,))
    assert decode(encode(full), Action, size_max=100_000) == full  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not 0"):
        Batch((), (), ())
    with pytest.raises(ValueError, match="not 101"):
        Batch((cancel,) * BATCH_ITEMS_MAX, (), (order,))
    wire = encode([8, [], [], [[1, *ORDER.values()]] * (BATCH_ITEMS_MAX + 1)])
    with pytest.raises(Malformed):
        decode(wire, Action, size_max=1_000_000)  # type: ignore[arg-type]


def test_an_ill_formed_item_spoils_its_batch() -> None:
    wire = encode([8, [], [], [[1, *{**ORDER, "size": "0"}.values()]]])
    with pytest.raises(Malformed):
        decode(wire, Action, size_max=1_000_000)  # type: ignore[arg-type]


def test_actions_can_not_be_changed() -> None:
    order = PlaceOrder(**ORDER)
    with pytest.raises(AttributeError):
        order.size = "2"  # type: ignore[misc]
    assert msgspec.structs.astuple(order) == tuple(ORDER.values())
