"""`omninode chain` fails with the documented exit codes and one line."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from omninode.contracts.devchain.store import Store
from omninode.node import log
from omninode.node.cli.main import main

FUND = "0x" + "11" * 20


@pytest.fixture(autouse=True)
def logging_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "configure_logging", lambda **_: None)


def failing(
    capsys: pytest.CaptureFixture[str], home: Path, *, port: int, fund: str = FUND
) -> tuple[int, str, str]:
    """Run it; returns the exit code, the line on stderr and the reason in the document."""
    code = main(["--json", "--home", str(home), "chain", "--port", str(port), "--fund", fund])
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    return code, line, json.loads(out)["error"]["reason"]


def test_a_port_that_is_taken_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, line, reason = failing(capsys, tmp_path, port=taken.getsockname()[1])
    assert (code, reason) == (2, "bad_configuration")
    assert "can not listen" in line
    assert "choose another port" in line


@pytest.mark.parametrize(("port", "fund"), [(65_536, FUND), (0, "nobody")])
def test_wrong_options_are_wrong_usage(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, port: int, fund: str
) -> None:
    code, _, reason = failing(capsys, tmp_path, port=port, fund=fund)
    assert (code, reason) == (2, "bad_configuration")


def test_a_folder_in_use_or_damaged_is_a_failure(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    store = Store.open(tmp_path / "evm")
    code, line, reason = failing(capsys, tmp_path, port=0)
    assert (code, reason) == (1, "storage_fault")
    assert "another process" in line
    store.close()
    (tmp_path / "evm" / "CURRENT").write_text("rubbish\n")
    code, _, reason = failing(capsys, tmp_path, port=0)
    assert (code, reason) == (1, "storage_fault")
