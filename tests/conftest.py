"""What every test gets: a printed seed, Hypothesis profiles, and no silent skips in CI."""

from __future__ import annotations

import faulthandler
import os
import random
import shutil
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

IN_CI = os.environ.get("CI") == "true"
SEED_DEFAULT = 1
STORM_ROUNDS_DEFAULT = 3
EXIT_GRACE_S = 20
NODE_MODULES = Path(__file__).resolve().parent.parent / "contracts" / "node_modules"
RECURSION_LIMIT = 1_000
SLOW_TIMEOUT_S = 300
"""For tests marked slow: real processes share two cores with whatever else runs."""

# No deadline: on a shared two-core machine it measures the neighbours. CI draws the same examples
# each time, so that it is red for a change only; a developer's machine explores.
hypothesis.settings.register_profile("dev", deadline=None, print_blob=True)
hypothesis.settings.register_profile(
    "ci", parent=hypothesis.settings.get_profile("dev"), derandomize=True
)
hypothesis.settings.register_profile(
    "thorough", parent=hypothesis.settings.get_profile("dev"), max_examples=5_000
)
hypothesis.settings.load_profile("ci" if IN_CI else "dev")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seed",
        type=int,
        default=SEED_DEFAULT,
        help="what tests with chance start from; a failure prints the one it had",
    )
    parser.addoption(
        "--storm-rounds",
        type=int,
        default=STORM_ROUNDS_DEFAULT,
        help="how often the storm of kills in network namespaces strikes",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give slow tests their longer time."""
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, None]:
    """Undo what a test module's imports did to the recursion limit (`node.keys.keystore`)."""
    del item
    sys.setrecursionlimit(RECURSION_LIMIT)
    return (yield)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End the process, with all stacks, if a test left a thread that would keep it for ever."""
    faulthandler.dump_traceback_later(EXIT_GRACE_S, exit=True)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The run's seed. A test that takes it has it printed with its failure."""
    value: int = request.config.getoption("--seed")
    return value


@pytest.fixture
def storm_rounds(request: pytest.FixtureRequest) -> int:
    """How often a storm of kills strikes."""
    value: int = request.config.getoption("--storm-rounds")
    return value


@pytest.fixture
def rng(seed: int) -> random.Random:
    """A generator of its own for each test, so that tests do not disturb one another."""
    return random.Random(seed)


@pytest.fixture(scope="session")
def npm_program() -> Callable[[str], str]:
    """Find a program that `./dev contracts` installs, as "anvil", or skip the test."""

    def find(name: str) -> str:
        path = shutil.which(name, path=NODE_MODULES / ".bin")
        if path is None:
            pytest.skip(f"no {name}: ./dev contracts installs it")
        return path

    return find


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Print the seed of a failed test, and in CI fail a test that could not run."""
    del call
    report = yield
    funcargs: dict[str, Any] = getattr(item, "funcargs", {})
    if report.failed and "seed" in funcargs:
        report.sections.append(("seed", f"run again with: --seed {funcargs['seed']}"))
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must be able to run it: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI, fail a test file that skips itself as a whole."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, but CI must be able to run it: {report.longrepr}"
    return report
