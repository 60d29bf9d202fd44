"""What people see: the lines and the screen."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from omninode.crypto import checksum_address
from omninode.node.devnet import view
from omninode.node.devnet.layout import WorldOptions
from omninode.node.devnet.money import MoneyCounts
from omninode.node.devnet.observer import Seen
from omninode.node.devnet.tracker import Sent, Tracker
from omninode.node.devnet.view import (
    MarketRow,
    PlainView,
    Snapshot,
    ValidatorRow,
    make_view,
    market_rows,
    summary_line,
    world_lines,
)
from omninode.node.devnet.world import opened_world
from omninode.node.home import Home


def snapshot(**changes: object) -> Snapshot:
    fields: dict[str, object] = {
        "seconds": 12.4,
        "height": 321,
        "p50_ms": 31.5,
        "p99_ms": 64.0,
        "orders_per_second": 197.6,
        "sent": 2_400,
        "final": 2_390,
        "refused": 1,
        "under_way": 9,
        "trades": 18,
        "money": MoneyCounts(deposits=5, withdrawals=3, checkpoints=7),
        "markets": (MarketRow("BTC-USDC", "78318", "78319", None),),
        "validators": (
            ValidatorRow("node0", "running", 321, "0xabcdef0123456789", 136.4, 1),
            ValidatorRow("node1", "down", 200, "", None, 2),
        ),
    }
    return Snapshot(**{**fields, **changes})  # type: ignore[arg-type]


def test_a_line_has_what_matters() -> None:
    line = summary_line(snapshot())
    parts = ("height 321", "198 orders/s", "31.5/64.0 ms", "18 trades", "78318/78319")
    for part in (*parts, "5 deposits, 3 withdrawals, 7 checkpoints"):
        assert part in line
    assert "node0:321:abcdef:running" in line
    assert "node1:200::down" in line


def test_a_line_before_anything_happened() -> None:
    line = summary_line(snapshot(p50_ms=None, p99_ms=None, markets=(), validators=()))
    assert "-/- ms" in line


def test_the_screen_shows_every_validator_and_market() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(view._screen(snapshot()))
    for part in ("321", "31.5 / 64.0", "BTC-USDC", "78319", "node1", "down", "0xabcdef012345"):
        assert part in out.getvalue()


def test_steps_and_lines_go_where_they_should() -> None:
    out = io.StringIO()
    plain = PlainView(out, tables=False)
    plain.tell("peers: 3/3")
    plain.update(snapshot())
    plain.close()
    assert out.getvalue().startswith("devnet: peers: 3/3\ndevnet: 12 s, height 321")


def test_beside_json_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = make_view(as_json=True)
    chosen.tell("a step")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "devnet: a step\n"


def test_the_table_names_urls_accounts_and_what_to_do_next(tmp_path: Path) -> None:
    options = WorldOptions(validators=1, base_port=22_650)
    with opened_world(Home(tmp_path), options, step=lambda _: None) as world:
        text = "\n".join(world_lines(world))
    assert "http://127.0.0.1:22651" in text
    assert "http://127.0.0.1:22652/metrics" in text
    assert "http://127.0.0.1:22645" in text
    assert checksum_address(world.plan.contract) in text
    assert "alice" in text
    assert f"omninode --home {tmp_path} order place --from alice" in text
    assert world.keys["alice"].secret.hex() not in text


def test_markets_are_read_from_the_answer() -> None:
    row = {"market": "XOM-USDC", "best_bid": "0.99", "best_ask": None, "last_price": None}
    assert market_rows({"markets": [row]}) == (MarketRow("XOM-USDC", "0.99", None, None),)
    assert market_rows(None) == ()


def test_a_snapshot_is_about_the_last_seconds() -> None:
    tracker = Tracker()
    for place, when_s in enumerate((1.0, 95.0, 96.0)):
        identifier = bytes([place])
        sent = Sent(b"", 1, orders=1, measured=True, validator=0, sent_s=when_s, tried_s=when_s)
        tracker.sent(identifier, sent)
        tracker.block(0, place, [identifier], now_s=when_s + 0.05)
    process = SimpleNamespace(
        node=SimpleNamespace(moniker="node0"), process_id=None, starts=1, has_answered=True
    )
    observer = SimpleNamespace(
        seen=[Seen(7, "0xaa")], connections=[SimpleNamespace(connected=False, ready=False)]
    )
    taken = Snapshot.take(
        tracker,
        observer,  # type: ignore[arg-type]
        [process],  # type: ignore[list-item]
        seconds=97.0,
        now_s=100.0,
        trades=2,
        money=MoneyCounts(),
        markets=(),
    )
    assert taken.orders_per_second == pytest.approx(0.2)
    assert taken.p50_ms == pytest.approx(50.0)
    assert taken.final == 3
    assert taken.validators[0].state == "down"
