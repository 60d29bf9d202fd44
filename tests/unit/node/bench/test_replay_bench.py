"""`omninode bench replay` on the shipped file, on a wrong one, and on none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from omninode.node.cli.main import main

SHIPPED = Path(__file__).resolve().parents[4] / "configs/replay/bitstamp_btcusd_l3_180s.json.gz"


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = main(["--json", "bench", "replay", *words])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), (str(SHIPPED),)])
def test_all_trades_of_the_shipped_file(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, document = run(capsys, *words)
    assert code == 0
    assert document["operations"] == 42_108
    assert document["trades_expected"] == document["trades_reproduced_in_sequence"] == 28
    assert document["operations_per_second"] >= 2_000


def test_a_trade_that_was_not_made_is_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    operations = [[1, "L", 1, "B", 100, 5], [2, "L", 2, "S", 100, 5]]
    file = tmp_path / "flow.json"
    file.write_text(json.dumps({"ops": operations, "trades": [[2, 1, 100, 5], [9, 9, 1, 1]]}))
    code, document = run(capsys, str(file))
    assert code == 1
    assert document["trades_reproduced_in_sequence"] == 1
    assert document["trades_expected"] == 2
    assert document["error"]["reason"] == "not_reproduced"


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\x1f\x8bno gzip", gzip.compress(b'{"ops": 1, "trades": []}')]
)
def test_a_file_that_is_no_flow_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "flow.json.gz"
    file.write_bytes(content)
    code, document = run(capsys, str(file))
    assert code == 2
    assert str(file) in document["error"]["message"]


def test_a_missing_file_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, document = run(capsys, str(tmp_path / "none"))
    assert code == 2
    assert "none" in document["error"]["message"]
