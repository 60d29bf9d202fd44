"""What a sealed order needs outside the chain: its bond in numbers, its salt on disk."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from omninode.dex.actions import PlaceOrder
from omninode.errors import ConfigError
from omninode.node.cli.bonds import bond_for
from omninode.node.cli.sealed import FOLDER, Secret, _is_open, read_secrets

GENESIS: dict[str, Any] = {
    "sealed": {"bond_ppm": 2_000, "bond_minimum": "1"},
    "assets": [{"name": "USDC", "decimals": 6}, {"name": "ETH", "decimals": 18}],
    "markets": [{"name": "ETH-USDC", "reference_price": ""}],
}


def order(side: str, size: str, price: str, slippage_ppm: int = 0) -> PlaceOrder:
    kind, tif = ("limit", "gtc") if price else ("market", "ioc")
    return PlaceOrder(0, "ETH-USDC", side, kind, size, price, tif, False, slippage_ppm, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("placed", "last", "bond"),
    [
        (order("buy", "2", "3000"), None, "12"),
        (order("buy", "0.0001", "3000"), None, "1"),
        (order("buy", "1.0003", "3000"), None, "6.0018"),
        (order("buy", "0.333333333333", "3001.01"), None, "2.000674"),  # rounded up
        (order("sell", "1", "1"), "3000", "6.3"),  # counted at the last price, and 5 %
        (order("buy", "1", "", 100_000), "3000", "6.93"),
        (order("buy", "1000", "5000"), None, "10000"),
    ],
)
def test_the_bond_is_what_the_exchange_will_ask(
    placed: PlaceOrder, last: str | None, bond: str
) -> None:
    market = {"market": "ETH-USDC", "quote": "USDC", "last_price": last}
    assert bond_for(placed, market=market, genesis=GENESIS) == bond


def test_before_the_first_trade_the_reference_of_genesis_counts() -> None:
    genesis = {**GENESIS, "markets": [{"name": "ETH-USDC", "reference_price": "2000"}]}
    market = {"market": "ETH-USDC", "quote": "USDC", "last_price": None}
    assert bond_for(order("sell", "1", "1"), market=market, genesis=genesis) == "4.2"


def secret(folder: Path, number: int, account: str = "0xA") -> Secret:
    identifier = "0x" + f"{number:064x}"
    return Secret(
        path=folder / FOLDER / f"{identifier}.json",
        order_id=identifier,
        commit="0x" + "11" * 32,
        account=account,
        nonce=10 - number,
        order={"market": "ETH-USDC"},
        salt="0x" + "22" * 32,
    )


def test_a_secret_is_kept_for_its_owner_only_and_read_back(tmp_path: Path) -> None:
    kept = [secret(tmp_path, 1), secret(tmp_path, 2), secret(tmp_path, 3, account="0xB")]
    for one in kept:
        one.write()
        assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    assert read_secrets(tmp_path, "0xA") == [kept[1], kept[0]]  # oldest first
    kept[0].remove()
    kept[0].remove()
    assert read_secrets(tmp_path, "0xA") == [kept[1]]


def test_a_secret_is_never_written_over(tmp_path: Path) -> None:
    secret(tmp_path, 1).write()
    with pytest.raises(ConfigError, match="File exists"):
        secret(tmp_path, 1).write()


def test_without_a_place_for_the_salt_nothing_is_committed(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    with pytest.raises(ConfigError) as caught:
        secret(tmp_path, 1).write()
    assert "safe until it is revealed" in caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({"order_id": "0x"})])
def test_a_damaged_secret_is_named(tmp_path: Path, text: str) -> None:
    one = secret(tmp_path, 1)
    one.write()
    one.path.write_text(text)
    with pytest.raises(ConfigError, match="not a sealed order"):
        read_secrets(tmp_path, "0xA")


def test_an_order_is_shown_in_its_own_window_only() -> None:
    batches = [{"batch": 10, "stage": "open"}, {"batch": 14, "stage": "collecting"}]
    assert [_is_open(batches, height) for height in (9, 10, 13, 14, 20)] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert not _is_open([], 10)
