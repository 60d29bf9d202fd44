"""Seven validators, 100 ms ± 50 ms and 5 % loss on every line, and what else can go wrong.

A client on every host trades, moves funds and reads all the time, while each test hurts the network
in its way and mends it. What the clients saw is judged by `history_judge`: all but what became of
orders after each test, that too after the last one.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from history_judge import Sent
from real_namespaces import DELAY_MS, JITTER_MS, LOSS_PPM, NamespaceNetwork, NamespaceNode
from real_network import until
from recording_clients import Clients
from small_disk import fill

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

GOES_ON_S = 60
ENDS_S = 30
HOUR_S = 3_600
CLOCK_TOLERANCE_S = 10

FINALS = 6
"""So many answers from then on show that the network goes on."""


def cut_off_s() -> float:
    """Return from when on nothing can be on its way any more that was sent before now."""
    return time.monotonic() + (DELAY_MS + JITTER_MS) / 1000


def final_since(clients: Clients, since_s: float, nodes: Iterable[NamespaceNode]) -> list[Sent]:
    """Return what was sent to these nodes since then and told to be final."""
    names = {node.name for node in nodes}
    sent = list(clients.court.histories.sent)
    return [one for one in sent if one.final and one.started_s > since_s and one.node in names]


def test_bad_lines_alone(hosts: NamespaceNetwork, clients: Clients) -> None:
    before = hosts.switch.counts()
    one, two = hosts.hosts[:2]
    round_trips = sorted(one.connects_in_s(two) for _ in range(5))
    assert round_trips[0] >= 2 * (DELAY_MS - JITTER_MS) / 1000, round_trips
    clients.wait_final(5 * FINALS, GOES_ON_S)
    now = hosts.switch.counts()
    lost, carried = (now[name] - before[name] for name in ("lost", "carried"))
    assert 0.5 < 1_000_000 * lost / (lost + carried) / LOSS_PPM < 2, now
    assert not now["overflowed"], now


def test_halves_stop_and_go_on_together(hosts: NamespaceNetwork, clients: Clients) -> None:
    """No part has more than two thirds: nothing new is final, orders are still taken."""
    hosts.part(range(4), range(4, 7))
    since_s, timeouts = cut_off_s(), clients.refused["timeout"]
    until(lambda: clients.refused["timeout"] >= timeouts + FINALS, GOES_ON_S)
    clients.wait_acknowledged(5, GOES_ON_S)
    assert final_since(clients, since_s, hosts.hosts) == []
    hosts.switch.mend()
    clients.wait_final(FINALS, GOES_ON_S)


def test_five_go_on_without_two(hosts: NamespaceNetwork, clients: Clients) -> None:
    five, two = hosts.hosts[:5], hosts.hosts[5:]
    hosts.part(range(5), [5], [6])
    since_s = cut_off_s()
    until(lambda: len(final_since(clients, since_s, five)) >= FINALS, GOES_ON_S)
    assert final_since(clients, since_s, two) == []
    height = max(node.height() for node in five)
    assert all(node.height() < height for node in two)


def test_the_deaf_and_the_mute(hosts: NamespaceNetwork, clients: Clients) -> None:
    """One hears nobody, another is heard by nobody: packets are cut in one direction only."""
    deaf, mute = 6, 5
    others = range(5)
    hosts.switch.cut([(other, deaf) for other in [*others, mute]])
    hosts.switch.cut([(mute, other) for other in others])
    clients.wait_final(3 * FINALS, GOES_ON_S)


def test_a_storm_of_kills(
    hosts: NamespaceNetwork, clients: Clients, seed: int, storm_rounds: int
) -> None:
    """One or two at a time, whatever they are doing; then all at once."""
    rng = random.Random(f"{seed} storm")
    for _ in range(storm_rounds):
        hit = rng.sample([node for node in hosts.hosts if node.is_running], rng.choice((1, 2)))
        for node in hit:
            node.signal(signal.SIGKILL)
        for node in hit:
            node.process.wait()
            node.launch()
        clients.wait_acknowledged(rng.randint(1, 6), GOES_ON_S)
    for node in hosts.hosts:
        node.signal(signal.SIGKILL)
    for node in hosts.hosts:
        node.process.wait()
    hosts.start()
    clients.wait_final(FINALS, GOES_ON_S)


def test_two_are_suspended_in_the_middle_of_it(hosts: NamespaceNetwork, clients: Clients) -> None:
    sleepers = hosts.hosts[1:3]
    for node in sleepers:
        node.suspend()
    clients.wait_final(FINALS, GOES_ON_S)
    for node in sleepers:
        node.resume()
    hosts.wait_in_sync(sleepers, GOES_ON_S)


def test_clocks_that_jump(hosts: NamespaceNetwork, clients: Clients) -> None:
    """Two wall clocks an hour off, one before and one behind, and back: time goes on."""
    fast, slow = hosts.hosts[5:]
    before_ms = hosts.hosts[0].block(hosts.height())["time_ms"]
    fast.move_clock(HOUR_S)
    slow.move_clock(-HOUR_S)
    assert abs(fast.clock_is_ahead_s() - HOUR_S) < CLOCK_TOLERANCE_S
    assert abs(slow.clock_is_ahead_s() + HOUR_S) < CLOCK_TOLERANCE_S
    clients.wait_final(2 * FINALS, GOES_ON_S)
    after_ms = hosts.hosts[0].block(hosts.hosts[0].height())["time_ms"]
    assert before_ms < after_ms < before_ms + 1000 * HOUR_S // 2
    height = hosts.height()
    fast.move_clock(0)
    slow.move_clock(0)
    for node in (fast, slow):
        hosts.wait_voting(node, after=height, within_s=GOES_ON_S)


def segments(node: NamespaceNode) -> list[Path]:
    return sorted(node.home.write_ahead_log.glob("*.wal"))


def test_a_log_that_lost_its_end(hosts: NamespaceNetwork, clients: Clients, seed: int) -> None:
    """Also what was durable once: the signer guard keeps it from voting twice."""
    node = hosts.hosts[3]
    node.kill()
    newest = segments(node)[-1]
    size = newest.stat().st_size
    os.truncate(newest, random.Random(f"{seed} log").randint(size // 2, size - 1))
    height = hosts.height()
    node.start()
    hosts.wait_voting(node, after=height, within_s=GOES_ON_S)


def test_a_full_disk(hosts: NamespaceNetwork, clients: Clients) -> None:
    """The first host's disk is a small one."""
    node = hosts.hosts[0]
    filler = fill(node.home.data)
    assert node.wait_ended(ENDS_S) == 1
    assert "No space left on device" in node.log()
    clients.wait_final(FINALS, GOES_ON_S)
    filler.unlink()
    node.start()
    hosts.wait_in_sync([node], GOES_ON_S)
