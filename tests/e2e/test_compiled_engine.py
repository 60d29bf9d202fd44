"""The engine as mypyc compiles it: the same source, the same state hashes.

Without a C compiler only the translation to C runs, which is where code that mypyc can not take
fails.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOW = ROOT / "tests" / "exchange_flow.py"
BLOCKS = 400
HAS_COMPILER = (
    shutil.which(os.environ.get("CC", "cc")) is not None
    and (Path(sysconfig.get_path("include")) / "Python.h").exists()
    and os.environ.get("CC") != "/bin/false"
)


def run_flow(source: Path, seed: int) -> dict[str, Any]:
    """Run the seeded flow on the package under `source` and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(FLOW), str(BLOCKS), str(seed)],
        env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{FLOW.parent}"},
        check=True,
        capture_output=True,
        text=True,
        timeout=100,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.slow
def test_the_compiled_engine_makes_the_same_hashes(tmp_path: Path, seed: int) -> None:
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "requirements.in"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("requirements-dev.in", "requirements-bench.in"):
        shutil.copy(ROOT / name, tmp_path)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=ignored)

    # Any command of setup.py translates to C first.
    command = ["-q", "build_ext", "--inplace"] if HAS_COMPILER else ["--version"]
    built = subprocess.run(
        [sys.executable, "setup.py", *command],
        cwd=tmp_path,
        env={**os.environ, "OMNINODE_MYPYC": "1"},
        check=False,
        capture_output=True,
        text=True,
    )

    assert built.returncode == 0, built.stdout[-3_000:] + built.stderr[-3_000:]
    assert list(tmp_path.glob("build/**/*.c"))
    if not HAS_COMPILER:
        return
    compiled = run_flow(tmp_path / "src", seed)
    interpreted = run_flow(ROOT / "src", seed)
    assert compiled.pop("engine").endswith(".so")
    assert interpreted.pop("engine").endswith(".py")
    assert compiled == interpreted
    assert compiled["trades"] > 100
