"""Seven validators on hosts of their own, shared by the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from real_namespaces import NamespaceNetwork, namespace_network, why_not
from recording_clients import Clients, Court

VALIDATORS = 7
CLOCKS = 2
SMALL_DISKS = 1
GOES_ON_S = 60


@pytest.fixture(scope="module")
def shared_hosts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NamespaceNetwork]:
    """The network, on good lines."""
    if reason := why_not():
        pytest.skip(reason)
    made = namespace_network(
        tmp_path_factory.mktemp("hosts"),
        validators=VALIDATORS,
        accounts=VALIDATORS,
        clocks=CLOCKS,
        small_disks=SMALL_DISKS,
        seed=str(request.config.getoption("--seed")),
    )
    with made as network:
        yield network


@pytest.fixture(scope="module")
def clients(shared_hosts: NamespaceNetwork, request: pytest.FixtureRequest) -> Iterator[Clients]:
    """A client on every host during all tests of a file; at the end everything is judged."""
    court = Court(shared_hosts)
    seed = str(request.config.getoption("--seed"))
    shared_hosts.worsen()
    with Clients(shared_hosts, court, seed=seed) as working:
        yield working
        shared_hosts.heal()
    verdict = court.sit()
    assert verdict.compared > verdict.acknowledged // 2 > 0, verdict
    assert verdict.balances, verdict
    assert verdict.sums, verdict


@pytest.fixture
def hosts(shared_hosts: NamespaceNetwork, clients: Clients) -> Iterator[NamespaceNetwork]:
    """The file's network; after the test it is mended, goes on, and a first look is taken."""
    yield shared_hosts
    shared_hosts.heal()
    clients.wait_final(2, GOES_ON_S)
    clients.court.look()
