"""What the methods about validators return."""

from __future__ import annotations

from typing import Annotated, TypedDict

import msgspec

Points = Annotated[str, msgspec.Meta(description="Points of a hundred, decimal text.")]


class ComponentPoints(TypedDict):
    """The points of a score by component, as of the last cut."""

    votes: Points
    blocks: Points
    uptime: Points
    dex: Points
    ipfs: Points
    chat: Points
    stake: Points
    tenure: Points


class ValidatorRow(TypedDict):
    """One validator.

    `power` is 0 outside of the set; `next_power` is known between an epoch's cut and its end. Owner
    and stakes (whole units) are null in a network without staking, `components` before the first
    cut. `synced` tells of a candidate whether it has said that it has caught up.
    """

    address: str
    moniker: str
    power: int
    next_power: int | None
    public_key: str
    beacon_key: str
    peer_id: str
    score: Points
    jailed: bool
    status: Annotated[
        str,
        msgspec.Meta(
            description="candidate, active, jailed, exiting, unbonding or tombstoned.",
        ),
    ]
    owner: str | None
    stake: str | None
    unbonding: str | None
    synced: bool
    components: ComponentPoints | None


class Validators(TypedDict):
    """The validators of the present epoch, and who else is registered."""

    height: int
    epoch: int
    total_power: int
    validators: list[ValidatorRow]


class Component(TypedDict):
    """One part of a score: `points` of at most `of`, the `share` in per cent.

    `change` is in points since the cut before, with its sign; `why` says what it was made of.
    """

    name: str
    points: Points
    of: int
    share: str
    change: str | None
    why: str


class Participation(TypedDict):
    """A validator's score: `components` as of the last cut, `running` if the epoch ended now.

    `reward` is what the last cut paid in the stake's asset.
    """

    height: int
    epoch: int
    scored_from_ms: int
    address: str
    owner: str
    moniker: str
    status: str
    power: int
    leader_weight: int
    score: Points
    previous_score: str | None
    raw: str | None
    scored_epoch: int | None
    reward: str | None
    jailed_epoch: int | None
    jails: int
    registered_ms: int
    components: list[Component]
    running: list[Component]
