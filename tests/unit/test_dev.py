"""./dev: what it says when it cannot help, and that it never half-installs."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import pytest

DEV = Path(__file__).resolve().parent.parent.parent / "dev"


@pytest.fixture
def dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, over an empty tree of its own."""
    loader = SourceFileLoader("omninode_dev", str(DEV))
    spec = spec_from_loader("omninode_dev", loader)
    assert spec
    module = module_from_spec(spec)
    loader.exec_module(module)
    for name in ("dev", "requirements.lock", "requirements-build.lock", "pyproject.toml"):
        (tmp_path / name).write_text(f"{name}\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "BIN", tmp_path / ".venv" / "bin")
    monkeypatch.setattr(module, "STAMP", tmp_path / ".venv" / ".omninode-stamp")
    monkeypatch.setattr(module, "LOCK", tmp_path / "requirements.lock")
    monkeypatch.setattr(module, "BUILD_LOCK", tmp_path / "requirements-build.lock")
    return module


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEV), *arguments], check=False, capture_output=True, text=True
    )


def fake_python(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_without_a_task_it_lists_them_and_exits_2() -> None:
    for arguments in ([], ["frobnicate"]):
        result = run(*arguments)
        assert result.returncode == 2
        assert result.stdout == ""
        for task in ("devnet", "test", "check", "contracts", "spec", "bench", "omninode"):
            assert task in result.stderr


def test_contracts_without_npm_says_so_in_a_line(
    dev: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert dev.main(["contracts"]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("dev: error: npm ")
    assert len(said.err.splitlines()) == 1


@pytest.fixture
def contracts(dev: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of contracts, with an npm and a node that write down how they are called."""
    folder = tmp_path / "contracts"
    (folder / "node_modules" / ".bin").mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}\n")
    monkeypatch.setattr(dev, "CONTRACTS", folder)
    monkeypatch.setattr(dev, "NODE_MODULES", folder / "node_modules")
    for name in ("npm", "node", "node_modules/.bin/forge"):
        fake_python(folder, name, f'echo "{Path(name).name} $@" >> {folder}/calls')
    monkeypatch.setenv("PATH", str(folder))
    return folder


def calls_of(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


def test_contracts_are_built_compared_and_tested(dev: Any, contracts: Path) -> None:
    assert dev.main(["contracts"]) == 0
    assert calls_of(contracts)[0] == "npm ci --ignore-scripts"
    assert [call for call in calls_of(contracts) if "--version" not in call][1:] == [
        "node build.mjs",
        "forge fmt --check",
        "forge test",
    ]


def test_contract_tools_are_installed_once_for_each_lock(dev: Any, contracts: Path) -> None:
    for lock, installs in (("{}", 1), ("{}", 1), ("{1}", 2)):
        (contracts / "package-lock.json").write_text(lock)
        assert dev.main(["contracts", "--write", "--match-test", "one"]) == 0
        assert sum(call.startswith("npm") for call in calls_of(contracts)) == installs
    assert "node build.mjs --write" in calls_of(contracts)
    assert "forge test --match-test one" in calls_of(contracts)


def test_contracts_that_do_not_compile_to_what_is_committed_fail(dev: Any, contracts: Path) -> None:
    fake_python(contracts, "node", "exit 1")
    assert dev.main(["contracts"]) == 1
    assert "forge test" not in calls_of(contracts)


def test_the_specification_is_checked_by_its_own_tools(
    dev: Any, tmp_path: Path, contracts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "spec"
    (folder / "node_modules").mkdir(parents=True)
    (folder / "package-lock.json").write_text("{}\n")
    monkeypatch.setattr(dev, "SPEC", folder)
    for _ in range(2):
        assert dev.main(["spec", "--seed", "7"]) == 0
    check = "node check.mjs --seed 7"
    assert calls_of(contracts) == ["npm ci --ignore-scripts", check, check]
    fake_python(contracts, "node", "exit 1")
    assert dev.main(["spec"]) == 1


def test_a_failing_npm_is_quoted_and_leaves_no_stamp(
    dev: Any, contracts: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_python(contracts, "npm", "echo the reason; exit 3")
    assert dev.main(["contracts"]) == 1
    said = capfd.readouterr().err
    assert "the reason" in said
    assert "exit code 3" in said
    assert not (contracts / "node_modules" / ".omninode-stamp").exists()


def test_without_a_forge_that_runs_here_it_says_so(
    dev: Any, contracts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_python(contracts, "node_modules/.bin/forge", "exit 126")
    assert dev.main(["contracts"]) == 1
    assert "forge is needed" in capsys.readouterr().err


def test_the_running_python_is_taken_when_it_fits(dev: Any) -> None:
    assert dev.find_python() == sys.executable


@pytest.fixture
def too_new(dev: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose own Python does not fit, and a folder that is its PATH."""
    monkeypatch.setattr(dev.sys, "version_info", (3, 13, 0))
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_a_dead_shim_is_passed_over(dev: Any, too_new: Path) -> None:
    fake_python(too_new, "python3.12", "exit 127")
    fake_python(too_new, "python3.11", "echo 3 11")
    assert dev.find_python() == str(too_new / "python3.11")


def test_no_fitting_python_is_said_with_what_was_found(dev: Any, too_new: Path) -> None:
    fake_python(too_new, "python3", "echo 3 9")
    with pytest.raises(dev.SetupError) as raised:
        dev.find_python()
    message = str(raised.value)
    assert "3.11 or 3.12" in message
    assert "3.13 at" in message
    assert f"3.9 at {too_new}/python3" in message


class RecordingInstaller:
    name = "recorder"

    def __init__(self, dev: Any, failure: str | None = None) -> None:
        self.dev = dev
        self.failure = failure
        self.calls: list[tuple[str, ...]] = []

    def install(self, *arguments: str) -> None:
        self.calls.append(arguments)
        if self.failure:
            raise self.dev.SetupError(self.failure)


def place_installers(
    dev: Any,
    monkeypatch: pytest.MonkeyPatch,
    installers: list[RecordingInstaller],
) -> list[str]:
    """Have set-up use these installers over a .venv that only looks like one; count rebuilds."""
    rebuilt = []

    def make_venv(python: str) -> list[RecordingInstaller]:
        rebuilt.append(python)
        dev.BIN.mkdir(parents=True, exist_ok=True)
        (dev.BIN / "python").symlink_to(sys.executable)
        return installers

    monkeypatch.setattr(dev, "make_venv", make_venv)
    monkeypatch.setattr(dev, "pip_installer", lambda _python: installers[0])
    return rebuilt


def test_set_up_is_hashed_wheels_only_and_happens_once(
    dev: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = RecordingInstaller(dev)
    rebuilt = place_installers(dev, monkeypatch, [installer])
    dev.ensure_environment()
    dev.ensure_environment()
    assert len(rebuilt) == 1
    build, lock, tree = installer.calls
    for call in (build, lock):
        assert "--require-hashes" in call
        assert "--no-deps" in call
        assert call[call.index("--only-binary") + 1] == ":all:"
    assert "--no-build-isolation" in lock
    assert tree[-2] == "-e"


def test_a_changed_lock_updates_the_same_environment(
    dev: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    installer = RecordingInstaller(dev)
    rebuilt = place_installers(dev, monkeypatch, [installer])
    dev.ensure_environment()
    dev.LOCK.write_text("another\n")
    dev.ensure_environment()
    assert len(rebuilt) == 1
    assert len(installer.calls) == 6


def test_a_moved_clone_or_a_removed_python_is_built_anew(
    dev: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt = place_installers(dev, monkeypatch, [RecordingInstaller(dev)])
    dev.ensure_environment()
    dev.STAMP.write_text(dev.STAMP.read_text().replace(str(dev.ROOT), "elsewhere"))
    (dev.BIN / "python").unlink()
    dev.ensure_environment()
    assert len(rebuilt) == 2


def test_the_next_installer_is_tried_and_failure_leaves_no_stamp(
    dev: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = RecordingInstaller(dev, failure="no index")
    place_installers(dev, monkeypatch, [failing])
    with pytest.raises(dev.SetupError, match="no index"):
        dev.ensure_environment()
    assert dev.stamp() is None
    (dev.BIN / "python").unlink()
    working = RecordingInstaller(dev)
    place_installers(dev, monkeypatch, [failing, working])
    dev.ensure_environment()
    assert len(working.calls) == 3
    assert dev.stamp() == dev.fingerprint()


def test_a_failing_installer_is_quoted(dev: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(dev.SetupError, match="exit code 3"):
        dev.run_with_progress(["/bin/sh", "-c", "echo the reason; exit 3"])
    assert "the reason" in capfd.readouterr().err


def test_the_users_pip_index_reaches_uv(dev: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "file:///somewhere/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    monkeypatch.delenv("UV_INDEX_URL", raising=False)
    dev.export_index_for_uv()
    assert dev.os.environ["UV_DEFAULT_INDEX"] == "file:///somewhere/simple"
    monkeypatch.delenv("UV_DEFAULT_INDEX")
