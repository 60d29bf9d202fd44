"""Every bound of the settlement state, and what happens at the bound."""

from __future__ import annotations

from typing import Final

ATTESTED_DEPOSITS_MAX: Final = 64
"""Most deposits in one attestation; more can not be encoded."""

IDENTITY_BYTES_MAX: Final = 512
"""Bytes that describe a validator in an entry of stake; the contract takes no more."""

ATTESTED_IDENTITY_BYTES_MAX: Final = 16_384
"""All identities in one attestation; more can not be encoded, and the next attestation goes on.
With 64 entries it stays below the bound of a transaction."""

PENDING_DEPOSITS_MAX: Final = 256
"""How far above the credited cursor a validator may attest; further is `too_far_ahead`, so that
one that attests rubbish keeps so many deposits in the state and no more: 150 KB if all have the
largest identity."""

PENDING_CHECKPOINTS_MAX: Final = 64
"""Checkpoints that wait for signatures; beyond it the oldest is dropped: the contract takes a newer
one as well."""

PENDING_HANDOVERS_MAX: Final = 16
"""Handovers that wait for signatures; beyond it the next takes the place of the newest."""

HANDOVERS_KEPT: Final = 64
"""Certified handovers in the state; a contract further behind needs them from old blocks."""

OWNERS_DUE_MAX: Final = 64
"""Owners whose slashed stake is to be proven to the contract; beyond it the oldest is forgotten."""

PROVABLE_CHECKPOINTS: Final = 256
"""Checkpoints that can prove a slash; the contract keeps so many."""

SETTLEMENT_VALIDATORS_MAX: Final = 256
"""Signers that fit the contract's bitmap; genesis with settlement has no more validators."""
