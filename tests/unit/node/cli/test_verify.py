"""`omninode verify` tells apart: backed, not backed, could not be compared."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from money_node import MoneyNode
from omninode.node.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture
def dead_url() -> Iterator[str]:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def verify(
    capsys: pytest.CaptureFixture[str], *words: str, code: int
) -> tuple[dict[str, Any], str]:
    """Return the document, and the line for people."""
    assert main(["verify", *words, "--json"]) == code
    out, err = capsys.readouterr()
    return json.loads(out), err.splitlines()[-1]


def test_what_is_backed(capsys: pytest.CaptureFixture[str], node: MoneyNode) -> None:
    for words in ((), ("--endpoint", node.chain_url)):
        document, _ = verify(capsys, "--rpc", node.url, *words, code=0)
        assert (document["ok"], document["reason"]) == (True, None)


def test_what_is_not_backed(capsys: pytest.CaptureFixture[str], node: MoneyNode) -> None:
    node.shortage = 1
    document, line = verify(capsys, "--rpc", node.url, code=1)
    assert (document["ok"], document["reason"]) == (False, "not_backed")
    assert document["error"]["reason"] == "not_backed"
    assert "missing in the contract" in line
    assert document["error"]["hint"]


def test_an_endpoint_that_is_down_is_named_and_not_the_node(
    capsys: pytest.CaptureFixture[str], node: MoneyNode, dead_url: str
) -> None:
    document, line = verify(capsys, "--rpc", node.url, "--endpoint", dead_url, code=1)
    assert (document["ok"], document["reason"]) == (None, "settlement_unreachable")
    assert f"could not compare: the settlement endpoint {dead_url} does not answer" in line
    assert "omninode start" not in line
    assert "--endpoint" in document["error"]["hint"]


def test_what_can_not_be_compared(
    capsys: pytest.CaptureFixture[str], node: MoneyNode, dead_url: str
) -> None:
    node.silent = 100
    silent, line = verify(capsys, "--rpc", node.url, code=1)
    assert (silent["ok"], silent["reason"]) == (None, "settlement_unreachable")
    assert "could not compare: " in line
    dead, line = verify(capsys, "--rpc", dead_url, code=1)
    assert (dead["ok"], dead["reason"]) == (None, "node_unreachable")
    assert "could not compare: " in line
    wrong, line = verify(capsys, "--rpc", node.url, "--endpoint", node.url, code=1)
    assert wrong["ok"] is None
    assert "not backed" not in line


def test_a_wrong_url_is_wrong_usage(capsys: pytest.CaptureFixture[str], node: MoneyNode) -> None:
    document, _ = verify(capsys, "--rpc", node.url, "--endpoint", "nonsense", code=2)
    assert "not an RPC URL" in document["error"]["message"]
