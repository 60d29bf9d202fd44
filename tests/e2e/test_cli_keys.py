"""`omninode keys` as a user runs it."""

from __future__ import annotations

import io
import json
import stat
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from omninode.node.cli.main import main

Call = Callable[..., dict[str, Any]]

SECRET = "0x" + "1f" * 32


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password-file"
    path.write_text("correct horse\n")
    return str(path)


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run `omninode keys` with --json and return the document."""

    def call(*arguments: str, code: int = 0, stdin: str = "") -> dict[str, Any]:
        words = ["keys", *arguments, "--home", str(tmp_path), "--json"]
        out, err = io.StringIO(), io.StringIO()
        source = io.TextIOWrapper(io.BytesIO(stdin.encode()))
        with monkeypatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.delenv("OMNINODE_PASSWORD_FILE", raising=False)
            patch.setattr(sys, "stdin", source)
            assert main(words) == code, err.getvalue()
        shown = out.getvalue() + err.getvalue()
        assert "correct horse" not in shown
        assert SECRET[2:] not in shown
        document: dict[str, Any] = json.loads(out.getvalue())
        return document

    return call


def test_a_new_key_is_listed_shown_and_opened_by_other_wallets(keys: Call, password: str) -> None:
    made = keys("new", "alice", "--password-file", password)
    path = Path(made["file"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys("list") == {"keys": [made]}
    assert keys("show", "alice") == made
    assert keys("show", made["address"]) == made
    assert json.loads(path.read_text())["crypto"]["kdfparams"]["n"] == 262_144
    secret = Account.decrypt(path.read_text(), "correct horse")
    assert Account.from_key(secret).address == made["address"]


def test_a_private_key_is_imported_from_a_file_or_stdin(
    keys: Call, password: str, tmp_path: Path
) -> None:
    source = tmp_path / "secret.hex"
    source.write_text(SECRET + "\n")
    flags = ["--password-file", password, "--light"]
    first = keys("import", str(source), "--name", "one", *flags)
    second = keys("import", "-", "--name", "two", *flags, stdin=SECRET[2:])
    assert first["address"] == second["address"] == Account.from_key(SECRET).address


def test_a_keystore_of_another_wallet_is_imported(
    keys: Call, password: str, tmp_path: Path
) -> None:
    foreign = tmp_path / "UTC--foreign"
    foreign.write_text(json.dumps(Account.encrypt(SECRET, "correct horse", iterations=4_096)))
    made = keys("import", str(foreign), "--name", "bob", "--password-file", password, "--light")
    assert made["address"] == Account.from_key(SECRET).address
    other = tmp_path / "other"
    other.write_text("other\n")
    flags = ["--password-file", password, "--new-password-file", str(other), "--light"]
    made = keys("import", str(foreign), "--name", "carol", *flags)
    assert Account.decrypt(Path(made["file"]).read_text(), "other").hex() == SECRET[2:]


def test_export_writes_a_keystore_or_the_bare_key(
    keys: Call, password: str, tmp_path: Path
) -> None:
    source = tmp_path / "secret.hex"
    source.write_text(SECRET)
    keys("import", str(source), "--name", "alice", "--password-file", password, "--light")
    out = tmp_path / "out.json"
    keys("export", "alice", "--out", str(out), "--password-file", password)
    assert Account.decrypt(out.read_text(), "correct horse").hex() == SECRET[2:]
    bare = tmp_path / "bare"
    keys("export", "alice", "--out", str(bare), "--private-key", "--password-file", password)
    assert bare.read_text() == SECRET + "\n"
    assert stat.S_IMODE(bare.stat().st_mode) == 0o600
    again = keys("export", "alice", "--out", str(bare), "--password-file", password, code=1)
    assert again["error"]["reason"] == "key_exists"


def test_refusals(keys: Call, password: str, tmp_path: Path) -> None:
    keys("new", "alice", "--password-file", password, "--light")
    flags = ["--password-file", password]
    assert keys("new", "alice", *flags, code=1)["error"]["reason"] == "key_exists"
    assert keys("show", "bob", code=1)["error"]["reason"] == "unknown_key"
    keys("new", "../bob", *flags, code=2)
    assert "--password-file" in keys("new", "bob", code=2)["error"]["hint"]
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    out = str(tmp_path / "out")
    refused = keys("export", "alice", "--out", out, "--password-file", str(wrong), code=1)
    assert refused["error"]["reason"] == "wrong_password"
    for text in ("", "0x12", "00" * 32, "ff" * 32, "{}", "x" * 100_000):
        keys("import", "-", "--name", "bob", *flags, code=2, stdin=text)
    assert [key["name"] for key in keys("list")["keys"]] == ["alice"]
