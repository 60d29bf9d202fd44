"""The reference is what the code says, and the client does not load the server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import CODES
from omninode.node.rpc.openrpc import describe
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
