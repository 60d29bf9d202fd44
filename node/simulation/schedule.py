"""What a seed decides before a schedule begins: validators, faults, network, crashes."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from omninode.node.simulation.disk import Crash

DELTA_MS = 1_000
MIN_BLOCK_INTERVAL_MS = 200
IDLE_BLOCK_INTERVAL_MS = 4_000


class Fault(enum.Enum):
    """How a Byzantine validator behaves."""

    TWIN = "two live copies of it share one key"
    LIAR = "signs whatever it sees and proposes twice"
    SILENT = "never speaks"


class Profile(enum.Enum):
    """What a batch of schedules is about."""

    MIXED = "mixed"
    CRASHES = "crashes"
    DISK_LOSS = "disk-loss"
    EVERY_APPEND = "every-append"
    OVERLOAD = "overload"


@dataclass
class Partition:
    """Until `end_ms`, instances in different groups do not hear one another."""

    end_ms: int
    group: dict[tuple[int, int], int]


@dataclass
class Schedule:
    """One seed's world. `rng` goes on to decide every delay and loss."""

    seed: int
    profile: Profile
    rng: random.Random
    powers: list[int]
    faults: dict[int, Fault]
    gst_ms: int
    loss: float
    delay_ms_max: int
    sync_ms_max: int
    execute_ms_max: int
    partitions: list[Partition] = field(default_factory=list)
    crash_chance: float = 0.0
    crash_times: list[tuple[int, int]] = field(default_factory=list)
    crash_at_append: tuple[int, int, Crash] | None = None
    blackout_ms: int | None = None
    lost_disk: int | None = None
    is_guard_lost: bool = False
    skew_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    transactions: list[tuple[int, int]] = field(default_factory=list)

    @property
    def instances(self) -> list[tuple[int, int]]:
        """The live copies: (validator, copy)."""
        copies = {Fault.TWIN: 2, Fault.LIAR: 1, Fault.SILENT: 0}
        return [
            (i, copy)
            for i in range(len(self.powers))
            for copy in range(copies[self.faults[i]] if i in self.faults else 1)
        ]

    @property
    def honest(self) -> list[int]:
        """The validators that follow the rules."""
        return [i for i in range(len(self.powers)) if i not in self.faults]

    def reachable(self, a: tuple[int, int], b: tuple[int, int], now_ms: int) -> bool:
        """Whether two instances hear one another now."""
        for partition in self.partitions:
            if now_ms < partition.end_ms:
                return partition.group[a] == partition.group[b]
        return True


def draw(seed: int, profile: Profile) -> Schedule:
    """Draw a schedule; the same seed and profile give the same one."""
    rng = random.Random(f"{profile.value}:{seed}")
    count = rng.choice([4, 4, 4, 5, 7])
    powers = [rng.choice([1, 1, 1, 2, 3, 5, 10]) for _ in range(count)]
    if profile is Profile.EVERY_APPEND:
        powers = [1, 1, 1, 1]
    schedule = Schedule(
        seed=seed,
        profile=profile,
        rng=rng,
        powers=powers,
        faults=_faults(rng, powers, profile),
        gst_ms=rng.randrange(3_000, 70_000),
        loss=rng.choice([0, 0.05, 0.2, 0.4]),
        delay_ms_max=rng.choice([300, 2_000, 6_000]),
        sync_ms_max=rng.choice([0, 5, 300]),
        execute_ms_max=rng.choice([1, 20, 3_000]),
    )
    _SHAPES[profile](schedule)
    end_ms = schedule.gst_ms + 8_000
    schedule.skew_ms = {x: rng.choice([0, 0, 90, -90, 350, -350]) for x in schedule.instances}
    schedule.transactions = sorted(
        (rng.randrange(end_ms), rng.randrange(count)) for _ in range(rng.choice([0, 10, 60]))
    )
    return schedule


def _faults(rng: random.Random, powers: list[int], profile: Profile) -> dict[int, Fault]:
    total = sum(powers)
    order = list(range(len(powers)))
    rng.shuffle(order)
    faults: dict[int, Fault] = {}
    for i in order:
        bad = sum(powers[j] for j in faults)
        if profile is Profile.OVERLOAD:
            if 3 * bad < total and 3 * (bad + powers[i]) < 2 * total:
                faults[i] = Fault.TWIN
        elif profile is Profile.EVERY_APPEND or 3 * (bad + powers[i]) >= total:
            continue
        elif rng.random() < (0.8 if profile is Profile.MIXED else 0.4):
            faults[i] = rng.choice([Fault.TWIN, Fault.TWIN, Fault.LIAR, Fault.SILENT])
    return faults


def _partition(schedule: Schedule) -> None:
    rng, at_ms = schedule.rng, 0
    while at_ms < schedule.gst_ms:
        at_ms = min(at_ms + rng.randrange(1_500, 9_000), schedule.gst_ms)
        groups = rng.choice([1, 2, 2, 3])
        schedule.partitions.append(
            Partition(at_ms, {x: rng.randrange(groups) for x in schedule.instances})
        )


def _mixed(schedule: Schedule) -> None:
    rng = schedule.rng
    _partition(schedule)
    schedule.crash_chance = rng.choice([0, 0, 0.03, 0.1])
    for i in schedule.honest:
        if rng.random() < 0.3:
            schedule.crash_times.append((rng.randrange(schedule.gst_ms), i))


def _crashes(schedule: Schedule) -> None:
    rng = schedule.rng
    if rng.random() < 0.5:
        _partition(schedule)
    schedule.crash_chance = rng.choice([0.05, 0.2, 0.5])


def _disk_loss(schedule: Schedule) -> None:
    rng = schedule.rng
    if rng.random() < 0.3:
        _partition(schedule)
    schedule.blackout_ms = rng.randrange(500, schedule.gst_ms)
    bad = sum(schedule.powers[i] for i in schedule.faults)
    able = [i for i in schedule.honest if 3 * (bad + schedule.powers[i]) < sum(schedule.powers)]
    schedule.lost_disk = rng.choice(able) if able else None
    schedule.is_guard_lost = rng.random() < 0.3


def _every_append(schedule: Schedule) -> None:
    """Seed 3k, 3k+1 and 3k+2: the k-th append of the log is a crash of each kind."""
    kind = list(Crash)[schedule.seed % len(Crash)]
    schedule.crash_at_append = (schedule.seed % 4, schedule.seed // len(Crash) + 1, kind)
    schedule.loss = 0
    schedule.delay_ms_max = 300
    schedule.gst_ms = 40_000


def _overload(schedule: Schedule) -> None:
    schedule.gst_ms = 40_000
    rng = schedule.rng
    if rng.random() < 0.3:
        _partition(schedule)
        return
    # Two halves of honest power that never hear each other, with a copy of each twin in both.
    schedule.loss = 0
    schedule.delay_ms_max = 300
    sides = [0, 0]
    group: dict[tuple[int, int], int] = {}
    for i in sorted(schedule.honest, key=lambda i: -schedule.powers[i]):
        side = int(sides[1] < sides[0])
        sides[side] += schedule.powers[i]
        group[i, 0] = side
    for i in schedule.faults:
        group[i, 0], group[i, 1] = 0, 1
    schedule.partitions.append(Partition(schedule.gst_ms, group))


_SHAPES: dict[Profile, Callable[[Schedule], None]] = {
    Profile.MIXED: _mixed,
    Profile.CRASHES: _crashes,
    Profile.DISK_LOSS: _disk_loss,
    Profile.EVERY_APPEND: _every_append,
    Profile.OVERLOAD: _overload,
}
