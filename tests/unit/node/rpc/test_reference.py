"""The reference is what the code says, and the client does not load the server."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from omninode.dex.action_json import _NAMES
from omninode.dex.actions import Batch
from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import CODES
from omninode.node.rpc.openrpc import describe
from omninode.node.rpc.reasons import MEANINGS, REASONS
from omninode.node.rpc.reference import write_reference

ROOT = Path(__file__).resolve().parents[4]


def test_the_reference_is_fresh() -> None:
    page = (ROOT / "docs" / "reference" / "rpc.md").read_text()
    assert page == write_reference(), (
        "write it again: python -m omninode.node.rpc.reference > docs/reference/rpc.md"
    )


def test_every_refusal_of_a_method_has_a_code() -> None:
    for entry in METHODS.values():
        assert set(entry.errors) <= set(CODES), entry.name


def words_of(path: Path, *calls: str) -> Iterator[str]:
    """Return the texts that begin the calls of some names in a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id in calls and isinstance(first, ast.Constant):
                yield str(first.value)


def test_every_reason_that_execution_gives_is_explained() -> None:
    dex = ROOT / "dex"
    modules = [dex / f"{name}.py" for name in ("agents", "orders", "transfers", "exchange")]
    modules += [dex / "staking" / f"{name}.py" for name in ("execution", "slashing")]
    modules += [*(dex / "bridge").glob("*.py"), *(dex / "sealed").glob("*.py")]
    given = {word for path in modules for word in words_of(path, "Rejected")}
    assert {"insufficient_balance", "wrong_hash", "already_signed"} <= given
    assert given <= set(MEANINGS)
    assert {reason for reasons in REASONS.values() for reason in reasons} == set(MEANINGS)
    everything = "".join(path.read_text() for path in dex.rglob("*.py"))
    assert [reason for reason in MEANINGS if f'"{reason}"' not in everything] == []


def test_every_action_has_its_reasons() -> None:
    assert set(REASONS) == set(_NAMES.values()) - {_NAMES[Batch]}


def test_every_parameter_has_a_name_and_a_type() -> None:
    for entry in describe(METHODS)["methods"]:
        for param in entry["params"]:
            assert param["name"]
            assert param["schema"]
            assert not param["name"].endswith("_")


@pytest.mark.parametrize("command", [["status", "--help"], ["order", "place", "--help"]])
def test_the_command_line_does_not_load_the_server(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from omninode.node.cli.main import main\n"
        f"sys.argv = ['omninode', *{command!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "loaded = {'hypercorn', 'h11', 'wsproto', 'prometheus_client', 'libp2p', 'plyvel'}\n"
        "print('LOADED', sorted(loaded & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "LOADED []" in done.stdout
