"""What a seed decides before a schedule begins: validators, faults, network, story.

Without a choice of stories the seeds go round `ROTATION`, so that every range of some forty seeds
holds all of them, and what a story enumerates (`APPENDS`) is enumerated over the seeds.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from omninode.node.simulation.disk import Crash
from omninode.node.simulation.options import EVERYTHING, MIXTURE, STORIES, Fault

DELTA_MS: Final = 1_000
MIN_BLOCK_INTERVAL_MS: Final = 200
IDLE_BLOCK_INTERVAL_MS: Final = 4_000
CRASH_DOWN_MS_MAX: Final = 6_000
APPENDS_MAX: Final = 256
"""A crash at every append up to this one is enumerated; a schedule rarely has more."""
OUTAGE_VIEWS: Final = 120
OUTAGE_VIEWS_LONG: Final = 10_000
LONG_OUTAGE_EVERY: Final = 64
"""Every so many outages last for `OUTAGE_VIEWS_LONG` views."""


class Byzantine(enum.Enum):
    """How a Byzantine validator behaves."""

    TWIN = "two live copies of it share one key"
    LIAR = "signs whatever it sees and proposes twice"
    SILENT = "never speaks"


class Profile(enum.Enum):
    """What a schedule is about."""

    MIXED = "mixed"
    STORM = "storm"
    APPENDS = "appends"
    FULL_DISK = "full-disk"
    LOST_DISK = "lost-disk"
    OLD_DISK = "old-disk"
    BIT_FLIP = "bit-flip"
    OUTAGE = "outage"
    OVERLOAD = "overload"


_SHARES = {
    Profile.MIXED: 13,
    Profile.STORM: 8,
    Profile.APPENDS: 8,
    Profile.LOST_DISK: 4,
    Profile.OVERLOAD: 2,
    Profile.FULL_DISK: 2,
    Profile.OLD_DISK: 2,
    Profile.BIT_FLIP: 1,
    Profile.OUTAGE: 1,
}


def _rotation() -> tuple[Profile, ...]:
    """Spread each profile's share evenly."""
    turns = [(place / share, p) for p, share in _SHARES.items() for place in range(share)]
    return tuple(profile for _, profile in sorted(turns, key=lambda turn: turn[0]))


ROTATION: Final = _rotation()


@dataclass
class Partition:
    """Until `end_ms`, instances in different groups do not hear one another."""

    end_ms: int
    group: dict[tuple[int, int], int]


@dataclass
class Schedule:
    """One seed's world. `rng` goes on to decide every delay and loss."""

    seed: int
    number: int
    """The how-manieth schedule of its profile this is."""
    profile: Profile
    rng: random.Random
    powers: list[int]
    faults: dict[int, Byzantine]
    gst_ms: int
    loss: float
    delay_ms_max: int
    sync_ms_max: int
    execute_ms_max: int
    has_epochs: bool = False
    duplicates: float = 0.05
    is_in_order: bool = False
    partitions: list[Partition] = field(default_factory=list)
    crash_chance: float = 0.0
    crash_times: list[tuple[int, int]] = field(default_factory=list)
    crash_at_append: tuple[int, int, Crash] | None = None
    blackout_ms: int | None = None
    victim: int | None = None
    """The validator that the story happens to."""
    story_ms: int = 0
    """When it happens."""
    is_guard_lost: bool = False
    is_directed: bool = False
    """Whether the story waits for the worst moment."""
    full_disks: list[tuple[int, int, int]] = field(default_factory=list)
    """(validator, from, until) in ms: nothing can be written."""
    outage_views: int = 0
    skew_ms: dict[tuple[int, int], int] = field(default_factory=dict)
    transactions: list[tuple[int, int]] = field(default_factory=list)

    @property
    def instances(self) -> list[tuple[int, int]]:
        """The live copies: (validator, copy)."""
        copies = {Byzantine.TWIN: 2, Byzantine.LIAR: 1, Byzantine.SILENT: 0}
        return [
            (i, copy)
            for i in range(len(self.powers))
            for copy in range(copies[self.faults[i]] if i in self.faults else 1)
        ]

    @property
    def honest(self) -> list[int]:
        """The validators that follow the rules."""
        return [i for i in range(len(self.powers)) if i not in self.faults]

    @property
    def spare(self) -> list[int]:
        """The honest validators of which one more may fail: less than a third is bad then."""
        bad = sum(self.powers[i] for i in self.faults)
        return [i for i in self.honest if 3 * (bad + self.powers[i]) < sum(self.powers)]

    @property
    def weak(self) -> set[int]:
        """The validators that must gain no power from one epoch to the next."""
        if self.profile is Profile.OUTAGE:
            return set(range(len(self.powers)))
        return {*self.faults} | ({self.victim} if self.victim is not None else set())

    def reachable(self, a: tuple[int, int], b: tuple[int, int], now_ms: int) -> bool:
        """Whether two instances hear one another now."""
        for partition in self.partitions:
            if now_ms < partition.end_ms:
                return partition.group[a] == partition.group[b]
        return True


def about(profile: Profile) -> frozenset[Fault]:
    """Return the faults with which every schedule has this profile."""
    return MIXTURE if profile is Profile.MIXED else MIXTURE | {Fault(profile.value)}


def draw(
    seed: int, *, validators: int | None = None, faults: frozenset[Fault] = EVERYTHING
) -> Schedule:
    """Draw a schedule; the same arguments give the same one.

    Args:
        seed: Names the schedule, and chooses its profile among what `faults` allow.
        validators: How many; `None` draws 4, 5 or 7.
        faults: What may go wrong.
    """
    profile, number = _choose(seed, faults)
    rng = random.Random(f"{profile.value}:{number}")
    count = rng.choice([4, 4, 4, 5, 7])
    count = count if validators is None else validators
    powers = [rng.choice([1, 1, 1, 2, 3, 5, 10]) for _ in range(count)]
    if profile in _EQUAL:
        powers = [1] * count
    schedule = Schedule(
        seed=seed,
        number=number,
        profile=profile,
        rng=rng,
        powers=powers,
        faults=_byzantine(rng, powers, profile, faults),
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
    if profile is Profile.BIT_FLIP:
        schedule.transactions = [(at, at // 300 % count) for at in range(0, end_ms, 300)]
    _leave_out(schedule, faults)
    return schedule


def _choose(seed: int, faults: frozenset[Fault]) -> tuple[Profile, int]:
    """Return the seed's profile, and the how-manieth of that profile it is."""
    stories = {Profile(fault.value) for fault in STORIES if fault in faults}
    if faults >= EVERYTHING or not stories:
        stories.add(Profile.MIXED)
    turns = [profile for profile in ROTATION if profile in stories]
    around, place = divmod(seed, len(turns))
    profile = turns[place]
    return profile, around * turns.count(profile) + turns[:place].count(profile)


def _leave_out(schedule: Schedule, faults: frozenset[Fault]) -> None:
    """Take away what was drawn and is not to go wrong."""
    if Fault.LOSS not in faults:
        schedule.loss = 0
    if Fault.DELAY not in faults:
        schedule.delay_ms_max = min(schedule.delay_ms_max, 300)
    if Fault.DUPLICATES not in faults:
        schedule.duplicates = 0
    is_odd = schedule.number % 2 == 1 or faults == {Fault.EPOCHS}
    schedule.has_epochs = (
        Fault.EPOCHS in faults and is_odd and schedule.profile is not Profile.OVERLOAD
    )
    schedule.is_in_order = Fault.REORDERING not in faults
    if Fault.PARTITIONS not in faults and schedule.profile is not Profile.OVERLOAD:
        schedule.partitions = []
    if Fault.SKEW not in faults:
        schedule.skew_ms = dict.fromkeys(schedule.skew_ms, 0)
    if Fault.CRASHES not in faults and schedule.profile is Profile.MIXED:
        schedule.crash_chance, schedule.crash_times = 0, []


def _byzantine(
    rng: random.Random, powers: list[int], profile: Profile, allowed: frozenset[Fault]
) -> dict[int, Byzantine]:
    total = sum(powers)
    order = list(range(len(powers)))
    rng.shuffle(order)
    faults: dict[int, Byzantine] = {}
    kinds = (
        [Byzantine.TWIN] * (2 * (Fault.TWINS in allowed))
        + [Byzantine.LIAR] * (Fault.LIARS in allowed)
        + [Byzantine.SILENT] * (Fault.SILENT in allowed)
    )
    for i in order:
        bad = sum(powers[j] for j in faults)
        if profile is Profile.OVERLOAD:
            if 3 * bad < total and 3 * (bad + powers[i]) < 2 * total:
                faults[i] = Byzantine.TWIN
        elif profile in _EQUAL or not kinds or 3 * (bad + powers[i]) >= total:
            continue
        elif rng.random() < (0.8 if profile is Profile.MIXED else 0.4):
            faults[i] = rng.choice(kinds)
    return faults


def _partition(schedule: Schedule) -> None:
    rng, at_ms = schedule.rng, 0
    while at_ms < schedule.gst_ms:
        at_ms = min(at_ms + rng.randrange(1_500, 9_000), schedule.gst_ms)
        groups = rng.choice([1, 2, 2, 3])
        schedule.partitions.append(
            Partition(at_ms, {x: rng.randrange(groups) for x in schedule.instances})
        )


def _victim(schedule: Schedule) -> int:
    """Draw a validator that may fail beside the Byzantine ones, with fewer of them if need be."""
    while not schedule.spare:
        schedule.faults.popitem()
    return schedule.rng.choice(schedule.spare)


def _mixed(schedule: Schedule) -> None:
    rng = schedule.rng
    _partition(schedule)
    schedule.crash_chance = rng.choice([0, 0, 0.03, 0.1])
    for i in schedule.honest:
        if rng.random() < 0.3:
            schedule.crash_times.append((rng.randrange(schedule.gst_ms), i))


def _storm(schedule: Schedule) -> None:
    """Crashes at a good part of all votes."""
    rng = schedule.rng
    if rng.random() < 0.5:
        _partition(schedule)
    schedule.crash_chance = rng.choice([0.05, 0.2, 0.5])


def _lost_disk(schedule: Schedule) -> None:
    """All crash at once, and one loses its data; sometimes its guard, too."""
    rng = schedule.rng
    schedule.victim = _victim(schedule)
    if rng.random() < 0.3:
        _partition(schedule)
    schedule.blackout_ms = rng.randrange(500, schedule.gst_ms)
    schedule.is_guard_lost = rng.random() < 0.3
    schedule.is_directed = schedule.number % 2 == 1
    if schedule.is_directed:
        # What is to happen then takes a quick network, so that the same view goes on.
        schedule.partitions, schedule.loss, schedule.delay_ms_max = [], 0, 100
        schedule.is_guard_lost = False


def _appends(schedule: Schedule) -> None:
    """Crash at each append of the log in turn, in each way."""
    append, kind = divmod(schedule.number, len(Crash))
    victim = schedule.number % len(schedule.powers)
    schedule.crash_at_append = (victim, append % APPENDS_MAX + 1, list(Crash)[kind])
    schedule.loss = 0
    schedule.delay_ms_max = 300
    schedule.gst_ms = 40_000


def _full_disk(schedule: Schedule) -> None:
    """Some disks, or all, can not be written for a while; their nodes stop and try again."""
    rng = schedule.rng
    if rng.random() < 0.3:
        _partition(schedule)
    for i in schedule.honest:
        if rng.random() < 0.7:
            begin_ms = rng.randrange(schedule.gst_ms)
            schedule.full_disks.append((i, begin_ms, rng.randrange(begin_ms, schedule.gst_ms)))


def _old_disk(schedule: Schedule) -> None:
    """One node comes back with an older copy of its whole disk, guard included.

    Its guard knows nothing of its last votes, so its peers have to: they are up and hear it, and
    what it sent has arrived before it is back (P7).
    """
    rng = schedule.rng
    schedule.loss = 0
    schedule.gst_ms = 60_000
    schedule.victim = _victim(schedule)
    schedule.story_ms = rng.randrange(2_000, 25_000)


def _bit_flip(schedule: Schedule) -> None:
    """A bit of one node's state turns over."""
    schedule.gst_ms = schedule.rng.randrange(15_000, 40_000)
    schedule.victim = _victim(schedule)
    schedule.story_ms = schedule.rng.randrange(3_000, schedule.gst_ms)


def _outage(schedule: Schedule) -> None:
    """Nobody hears a proposal and one validator hears nothing, for very many views.

    Then another one dies, so that the straggler is needed.
    """
    is_long = schedule.number % LONG_OUTAGE_EVERY == LONG_OUTAGE_EVERY - 1
    few = schedule.rng.randrange(20, OUTAGE_VIEWS)
    schedule.outage_views = OUTAGE_VIEWS_LONG if is_long else few
    schedule.victim = schedule.rng.randrange(len(schedule.powers))
    schedule.loss = 0
    schedule.sync_ms_max = 0


def _overload(schedule: Schedule) -> None:
    """At least a third of the power is faulty, less than two thirds: a fork has to convict."""
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


_EQUAL = {Profile.APPENDS, Profile.OUTAGE}
"""Validators of equal power, none of them Byzantine."""

_SHAPES: dict[Profile, Callable[[Schedule], None]] = {
    Profile.MIXED: _mixed,
    Profile.STORM: _storm,
    Profile.APPENDS: _appends,
    Profile.FULL_DISK: _full_disk,
    Profile.LOST_DISK: _lost_disk,
    Profile.OLD_DISK: _old_disk,
    Profile.BIT_FLIP: _bit_flip,
    Profile.OUTAGE: _outage,
    Profile.OVERLOAD: _overload,
}
