"""The three rings hold, the type checker sees every file, and both would notice if not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PACKAGES = ("node", "consensus", "dex", "storage", "chat", "contracts", "configs")


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "lint-imports"), "--no-logo", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree / "src")},
        check=False,
        capture_output=True,
        text=True,
    )


def test_the_rings_hold() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("dex/planted.py", "import time", "The cores know no clock"),
        ("consensus/types.py", "import trio", "The cores know no clock"),
        ("consensus/types.py", "import omninode.consensus.wal", "No core imports a shell"),
        ("storage/planted.py", "import omninode.node.config", "Packages import downwards only"),
        ("consensus/types.py", "import omninode.dex.genesis", "Packages import downwards only"),
        ("chat/planted.py", "import omninode.node.runtime", "Only the command line"),
    ],
)
def test_a_planted_import_is_noticed(tmp_path: Path, module: str, line: str, broken: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for name in ("src", *PACKAGES):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=ignored)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    result = lint_imports(tmp_path)
    assert result.returncode == 1
    assert re.search(rf"{broken}.*BROKEN", result.stdout), result.stdout


def test_mypy_checks_every_file() -> None:
    result = subprocess.run(
        [str(BIN / "mypy")], cwd=ROOT, check=False, capture_output=True, text=True
    )
    checked = re.search(r"(?:no issues found in|checked) (\d+) source files", result.stdout)
    assert checked, result.stdout + result.stderr
    on_disk = [ROOT / "src" / "omninode" / name for name in ("__init__.py", "__main__.py")]
    on_disk += [p for p in (ROOT / "src" / "omninode").glob("*.py") if p not in on_disk]
    for name in PACKAGES:
        on_disk += (ROOT / name).rglob("*.py")
    assert int(checked[1]) == len(on_disk)
