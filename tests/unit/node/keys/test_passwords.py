from __future__ import annotations

import getpass
import stat
from pathlib import Path

import pytest

from omninode.errors import ConfigError, UserError
from omninode.node.keys import passwords
from omninode.node.keys.passwords import make_password_file, read_password


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMNINODE_PASSWORD_FILE", raising=False)


def answers(monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
    pending = list(texts)
    monkeypatch.setattr(passwords, "can_prompt", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: pending.pop(0))


def test_the_flag_beats_the_environment_which_beats_the_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("flag", "environment", "fallback"):
        (tmp_path / name).write_text(f"{name}\n")
    fallback = tmp_path / "fallback"
    assert read_password(None, purpose="it", fallback=fallback) == "fallback"
    monkeypatch.setenv("OMNINODE_PASSWORD_FILE", str(tmp_path / "environment"))
    assert read_password(None, purpose="it", fallback=fallback) == "environment"
    assert read_password(tmp_path / "flag", purpose="it", fallback=fallback) == "flag"


@pytest.mark.parametrize(
    ("text", "password"),
    [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), (" a b \n", " a b "), ("a\n\n", "a\n")],
)
def test_only_the_line_break_at_the_end_is_cut(tmp_path: Path, text: str, password: str) -> None:
    (tmp_path / "password").write_bytes(text.encode())
    assert read_password(tmp_path / "password", purpose="it") == password


@pytest.mark.parametrize("data", [b"", b"\n", b"\xff\n", b"x" * 5_000])
def test_files_that_hold_no_password(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "password").write_bytes(data)
    with pytest.raises(ConfigError, match="password"):
        read_password(tmp_path / "password", purpose="it")


def test_a_missing_file_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_password(tmp_path / "none", purpose="it")


def test_without_file_and_terminal_it_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "can_prompt", lambda: False)
    with pytest.raises(ConfigError, match="no terminal") as failure:
        read_password(None, purpose="it")
    assert "--password-file" in failure.value.hint


def test_a_prompt_asks_twice_for_a_new_password(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "a", "a")
    assert read_password(None, purpose="it", confirm=True) == "a"
    answers(monkeypatch, "a", "b")
    with pytest.raises(UserError, match="differ"):
        read_password(None, purpose="it", confirm=True)
    answers(monkeypatch, "")
    with pytest.raises(ConfigError, match="empty"):
        read_password(None, purpose="it")


def test_a_random_password_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "password"
    password = make_password_file(path)
    assert len(password) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_password(path, purpose="it") == password
    with pytest.raises(UserError, match="exists"):
        make_password_file(path)
