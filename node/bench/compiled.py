"""The engine compiled by mypyc into a temporary folder, for the benchmarks that compare both.

The same recipe as `OMNINODE_MYPYC=1 pip install .`: `setup.py` of the source tree. Nothing of the
installation that runs is touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import omninode

BUILD_TIMEOUT_S: Final = 900
_BESIDE: Final = ("setup.py", "pyproject.toml", "README.md", "LICENSE")


@contextmanager
def compiled_engine() -> Iterator[Path | str]:
    """Give a folder to put in front on the path, or why there is none, as text."""
    root = Path(omninode.__file__).resolve().parents[2]
    missing = _missing(root)
    if missing:
        yield missing
        return
    with tempfile.TemporaryDirectory(prefix="omninode-compiled-") as folder:
        yield _build(root, Path(folder))


def _missing(root: Path) -> str:
    if not (root / "setup.py").is_file():
        return "the program does not run from its source tree"
    if shutil.which(os.environ.get("CC", "cc")) is None:
        return "there is no C compiler"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "Python's headers are not installed"
    return ""


def _build(root: Path, folder: Path) -> Path | str:
    for name in (*_BESIDE, *(path.name for path in root.glob("requirements*.in"))):
        shutil.copy(root / name, folder)
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.egg-info")
    shutil.copytree(root / "src", folder / "src", ignore=ignored)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder,
        env={**os.environ, "OMNINODE_MYPYC": "1"},
        check=False,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    if built.returncode != 0:
        last = (built.stderr.strip() or built.stdout.strip()).splitlines()[-1:]
        return f"mypyc failed: {' '.join(last)}"
    return folder / "src"
