"""The sealed lane from the shell, on a network of real processes."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from omninode.dex.actions import Transfer
from omninode.errors import UserError
from real_network import RealNetwork, RealNode, until
from real_trading import Trader

pytestmark = pytest.mark.slow

PASSWORD = "open sesame"
ORDER_S = 120


def run(node: RealNode, *arguments: str) -> dict[str, Any]:
    done = node.run(*arguments, within_s=ORDER_S)
    assert done.code == 0, (done.document, done.stderr)
    return done.document


@pytest.fixture
def password(tmp_path: Path) -> str:
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    file.chmod(0o600)
    return str(file)


def account(network: RealNetwork, node: RealNode, name: str, password: str) -> str:
    """Make a keystore with 10,000 USDC and 100 ETH; return its address."""
    made = run(node, "keys", "new", name, "--light", "--password-file", password)
    payer = Trader(network, network.busy_accounts[0])
    for asset, amount in (("USDC", "10000"), ("ETH", "20")):
        to = bytes.fromhex(made["address"][2:])
        paid = payer.send(node, Transfer(0, to, 0, asset, amount))
        assert paid["code"] == "ok", paid
    return str(made["address"])


def sealed(who: str, side: str, price: str, password: str) -> tuple[str, ...]:
    named = ("--from", who, "--password-file", password, "--market", "ETH-USDC", "--side", side)
    return ("order", "place", *named, "--size", "1", "--price", price, "--sealed")


def test_two_sealed_orders_meet_at_the_middle_of_their_limits(
    network: RealNetwork, password: str
) -> None:
    one, two = network.validators[0], network.validators[1]
    buyer = account(network, one, "buyer", password)
    seller = account(network, two, "seller", password)
    with ThreadPoolExecutor() as pool:
        buying = pool.submit(run, one, *sealed("buyer", "buy", "3010", password))
        selling = pool.submit(run, two, *sealed("seller", "sell", "3000", password))
        bought, sold = buying.result(), selling.result()
    assert (bought["state"], sold["state"]) == ("filled", "filled")
    assert bought["average_price"] == sold["average_price"] == "3005"
    assert [fill["price"] for fill in bought["fills"]] == ["3005"]
    # 3,005 USDC, and 0.2 % of it from each.
    height = max(bought["height"], sold["height"])
    network.wait_height(height, network.validators)
    for node in network.validators:
        for address, usdc in ((buyer, "6988.99"), (seller, "12998.99")):
            (subaccount,) = node.call("omni_getAccount", address=address)["subaccounts"]
            found = {entry["asset"]: entry for entry in subaccount["balances"]}
            assert (found["USDC"]["free"], found["USDC"]["held"]) == (usdc, "0")
    for node in (one, two):
        assert list((node.home.keys / ".sealed").iterdir()) == []


def test_an_interrupted_order_is_revealed_by_the_next_command(
    network: RealNetwork, password: str
) -> None:
    node = network.validators[0]
    account(network, node, "hasty", password)
    command = [sys.executable, "-m", "omninode", "--home", str(node.home.path), "--json"]
    placing = subprocess.Popen(
        [*command, *sealed("hasty", "buy", "2500", password)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )
    folder = node.home.keys / ".sealed"

    def committed() -> str:
        for file in folder.glob("0x*.json"):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            return str(json.loads(file.read_text())["order_id"])
        return ""

    order = until(committed, 30)
    until(lambda: _state(node, order) == "sealed", 30)
    placing.send_signal(signal.SIGINT)
    _, said = placing.communicate(timeout=30)
    assert placing.returncode == 130
    assert f"omninode order reveal {order} --from hasty" in said
    done = run(node, "order", "reveal", "--from", "hasty", "--password-file", password)
    (left,) = done["orders"]
    assert (left["order_id"], left["state"]) == (order, "open")
    assert list(folder.iterdir()) == []
    again = run(node, "order", "reveal", "--from", "hasty", "--password-file", password)
    assert again["orders"] == []


def _state(node: RealNode, order_id: str) -> str:
    try:
        return str(node.call("omni_getOrder", order_id=order_id)["state"])
    except UserError:
        return ""
