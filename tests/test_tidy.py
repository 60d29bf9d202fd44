"""The style of the tree, as far as a program can judge it."""

from __future__ import annotations

import ast
import re
import stat
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "omninode"
LINKED = ("node", "consensus", "dex", "storage", "chat", "contracts", "configs")

# Only what contracts compile to is shipped.
CONTRACT_SOURCES = re.compile(r"contracts/((src|test|bin)/|\.npmrc|[a-z.-]+\.(json|toml|mjs)$)")

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
VAGUE_NAMES = {"util", "utils", "helper", "helpers", "manager", "managers", "misc", "common"}

# The cores and what they stand on: exact integers only.
CORES = (
    "consensus",
    "dex",
    "src/omninode/encoding.py",
    "src/omninode/crypto.py",
    "src/omninode/bls.py",
)
SHELLS = (
    "consensus/driver",
    "consensus/wal.py",
    "consensus/guard.py",
    "consensus/vote_log.py",
)

# Written in pieces, so that this file does not hold what it looks for.
UNFINISHED = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "HA" + "CK")) + r")\b")
HOSTS = re.compile(
    "|".join(("pypi" + r"\.org", "python" + "hosted", "npm" + r"js\.", "regis" + r"try\.[a-z]+\."))
)
BLANKS_AT_END = re.compile(r"[ \t]$", re.MULTILINE)
MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|root|Users|home/[a-z]+)/")


@cache
def tracked() -> tuple[str, ...]:
    """All files that are committed or would be: new ones count, ignored ones do not."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    return tuple(sorted(name for name in listing.split("\0") if name and (ROOT / name).is_file()))


def python_files() -> tuple[str, ...]:
    return tuple(name for name in tracked() if name.endswith(".py") or name == "dev")


def core_files() -> tuple[str, ...]:
    return tuple(n for n in python_files() if n.startswith(CORES) and not n.startswith(SHELLS))


def text_files() -> Iterator[tuple[str, str]]:
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data[:8_192]:
            yield name, data.decode()


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text(), name)


def test_there_are_files_to_judge() -> None:
    assert len(python_files()) > 10
    assert len(core_files()) > 5


def test_files_are_short() -> None:
    lengths = {name: (ROOT / name).read_text().count("\n") for name in python_files()}
    assert {name: lines for name, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_functions_are_short() -> None:
    long = [
        f"{name}:{node.lineno} {node.name} has {lines} lines"
        for name in python_files()
        for node in ast.walk(tree(name))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_LINES_MAX
    ]
    assert long == []


def test_modules_are_named_for_what_they_do() -> None:
    assert [n for n in tracked() if VAGUE_NAMES & set(Path(n).with_suffix("").parts)] == []


def test_nothing_is_left_unfinished() -> None:
    assert [name for name, text in text_files() if UNFINISHED.search(text)] == []


def test_no_file_names_a_registry() -> None:
    assert [name for name, text in text_files() if HOSTS.search(text)] == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert [name for name, text in text_files() if MACHINE_PATHS.search(text)] == []


def test_text_ends_with_one_newline_and_has_no_trailing_blanks() -> None:
    untidy = [
        name
        for name, text in text_files()
        if text
        and name != "LICENSE"
        and not name.endswith(".json")
        and (not text.endswith("\n") or text.endswith("\n\n") or BLANKS_AT_END.search(text))
    ]
    assert untidy == []


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name} -> {target}"
        for name in tracked()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / name).read_text())
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert [link for link in broken if "NNN" not in link] == []


def test_cores_have_no_floats() -> None:
    floats = [
        f"{name}:{node.lineno}"
        for name in core_files()
        for node in ast.walk(tree(name))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float | complex))
        or (isinstance(node, ast.Name) and node.id == "float")
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
    ]
    assert floats == [], "use integers, // and ppm"


def test_package_inits_hold_a_docstring_only() -> None:
    for name in python_files():
        if Path(name).name != "__init__.py" or name == "src/omninode/__init__.py":
            continue
        body = tree(name).body
        assert ast.get_docstring(tree(name)), name
        assert len(body) == 1, f"{name}: imports show the true place of a thing"


def test_every_package_is_linked() -> None:
    on_disk = {Path(n).parts[0] for n in tracked() if re.fullmatch(r"[a-z]+/__init__\.py", n)}
    assert on_disk == set(LINKED)
    for name in LINKED:
        link = PACKAGE / name
        assert link.is_symlink(), link
        assert link.readlink() == Path(f"../../{name}")
    modes = subprocess.run(
        ["git", "ls-files", "--stage", *(f"src/omninode/{name}" for name in LINKED)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert [line[:6] for line in modes] == ["120000"] * len(LINKED)


@pytest.mark.parametrize("name", ["dev", ".ci/run", "contracts/bin/solc"])
def test_programs_can_be_run(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR


def locks() -> list[str]:
    return [name for name in tracked() if name.endswith(".lock")]


def test_locks_are_hashed_and_name_no_place() -> None:
    assert set(locks()) == {
        "requirements.lock",
        "requirements-build.lock",
        "requirements-bench.lock",
    }
    for name in locks():
        text = (ROOT / name).read_text()
        assert "://" not in text, name
        assert not re.search(r"^-", text, re.MULTILINE), f"{name} holds an option"
        for requirement in re.split(r"\n(?=\S)", text.strip()):
            assert re.match(r"[a-z0-9._-]+==\S+", requirement), requirement
            assert "--hash=sha256:" in requirement, requirement.splitlines()[0]


def direct_requirements() -> set[str]:
    names = set()
    for path in ROOT.glob("requirements*.in"):
        for line in path.read_text().splitlines():
            if line and not line.startswith("#"):
                names.add(re.split(r"[=<>\[;]", line)[0].strip())
    return names


def test_every_direct_requirement_is_locked() -> None:
    locked = {
        match[1]
        for name in locks()
        for match in re.finditer(r"^([a-z0-9._-]+)==", (ROOT / name).read_text(), re.MULTILINE)
    }
    assert direct_requirements() <= locked


def test_every_direct_requirement_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert {name for name in direct_requirements() if f"| {name} |" not in page} == set()


def test_the_override_for_libp2p_is_in_the_lock() -> None:
    overrides = (ROOT / "requirements-overrides.txt").read_text().splitlines()
    lock = (ROOT / "requirements.lock").read_text()
    for override in overrides:
        if not override.startswith("#"):
            assert f"{override} \\" in lock


def test_pythons_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == ">=3.11,<3.13"
    dev = (ROOT / "dev").read_text()
    assert "PYTHON_MIN = (3, 11)" in dev
    assert "PYTHON_END = (3, 13)" in dev


@pytest.mark.slow
def test_the_wheel_holds_one_top_level_package_and_all_its_files(tmp_path: Path) -> None:
    source = tmp_path / "tree"
    for name in tracked():
        if name.startswith(("src/", *(f"{package}/" for package in LINKED))) or "/" not in name:
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    for name in LINKED:
        (source / "src" / "omninode" / name).symlink_to(f"../../{name}")
    build = "from setuptools.build_meta import build_wheel as b; import sys; b(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
        (top_level,) = (n for n in archive.namelist() if n.endswith("top_level.txt"))
        assert archive.read(top_level).decode().split() == ["omninode"]
    expected = {
        name.removeprefix("src/") if name.startswith("src/") else f"omninode/{name}"
        for name in tracked()
        if name.startswith(("src/", *(f"{package}/" for package in LINKED)))
        and not CONTRACT_SOURCES.match(name)
    }
    assert inside == expected
