"""What happened to validators and their stake; amounts are in base units, 16 bytes."""

from __future__ import annotations

import msgspec


class StakeChanged(msgspec.Struct, frozen=True, array_like=True, tag="stake"):
    """Stake came in, or began to unbond; `stake` is what is bonded then.

    `kind` is `registered`, `added`, `removed`, or `left` for all of it.
    """

    owner: bytes
    address: bytes
    kind: str
    amount: bytes
    stake: bytes


class StakeRefused(msgspec.Struct, frozen=True, array_like=True, tag="stake_refused"):
    """The part of an addition that no stake may have; it is the owner's free balance now.

    `reason` is `cap_exceeded`.
    """

    owner: bytes
    amount: bytes
    reason: str


class StakeReleased(msgspec.Struct, frozen=True, array_like=True, tag="stake_released"):
    """Stake has unbonded: it is withdrawn to the owner, or free where there is no settlement."""

    owner: bytes
    amount: bytes
    withdrawn: bool


class ValidatorChanged(msgspec.Struct, frozen=True, array_like=True, tag="validator"):
    """A validator stands differently: `status` is a word of the registry, `reason` says why."""

    owner: bytes
    address: bytes
    status: str
    reason: str


class Slashed(msgspec.Struct, frozen=True, array_like=True, tag="slashed"):
    """A conviction took stake, `ppm` millionths in all; the treasury has it.

    `offence` is the offender's own, also where a later conviction raised the part.
    """

    owner: bytes
    address: bytes
    offence: str
    ppm: int
    amount: bytes


class Rewarded(msgspec.Struct, frozen=True, array_like=True, tag="reward"):
    """A validator's owner got its part of an epoch's inflation or fees in one asset."""

    owner: bytes
    asset: str
    amount: bytes


class EpochEnded(msgspec.Struct, frozen=True, array_like=True, tag="epoch_cut"):
    """The cut of an epoch decided the next set."""

    epoch: int
    next_set_hash: bytes
    inflation: bytes


class EpochBegan(msgspec.Struct, frozen=True, array_like=True, tag="epoch"):
    """Its set takes over with the next block."""

    epoch: int
    set_hash: bytes
