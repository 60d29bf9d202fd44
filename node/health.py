"""Is this node fit to serve? `GET /health` says 200 only when it is in sync and committing."""

from __future__ import annotations

from typing import Final

import msgspec

STALL_INTERVALS: Final = 5
"""Idle block intervals without a commit after which a node is not committing."""

STALL_MS_MIN: Final = 10_000
"""A shorter pause is never held against a node: a failing leader costs some time."""


class Problem(msgspec.Struct, frozen=True):
    """Why a node is not fit: a stable word, and a sentence for people."""

    reason: str
    message: str


class Health(msgspec.Struct, frozen=True):
    """The answer of `/health`."""

    healthy: bool
    height: int
    problems: tuple[Problem, ...]


def judge_health(
    *,
    height: int,
    halted: str | None,
    catching_up: bool,
    since_commit_ms: int,
    idle_block_interval_ms: int,
) -> Health:
    """Judge a node's condition.

    Args:
        height: Of its newest stored block.
        halted: Why it stopped for good, if it did.
        catching_up: Whether it is fetching blocks that others have.
        since_commit_ms: Time since it stored a block, or since it started.
        idle_block_interval_ms: How far apart blocks are when nobody trades.
    """
    problems: list[Problem] = []
    if halted is not None:
        problems.append(Problem("halted", halted))
    if catching_up:
        problems.append(Problem("catching_up", "fetching blocks that the network already has"))
    stall_ms = max(STALL_MS_MIN, STALL_INTERVALS * idle_block_interval_ms)
    if since_commit_ms > stall_ms:
        text = (
            f"no block for {since_commit_ms // 1000} s; omni_getConsensusState says what it awaits"
        )
        problems.append(Problem("not_committing", text))
    return Health(healthy=not problems, height=height, problems=tuple(problems))
