"""Every bound of the staking state, and what happens at the bound."""

from __future__ import annotations

from typing import Final

IDENTITY_BYTES_MAX: Final = 512
"""Longest identity in a registration; the contract takes no longer one either."""

PEER_ID_CHARS_MAX: Final = 128
MONIKER_CHARS_MAX: Final = 64

REGISTERED_MAX: Final = 1_000
"""Registered validators, tombstones apart; one more is refused as `registry_full`."""

UNBONDINGS_PER_OWNER_MAX: Final = 32
"""Parts of one owner's stake that unbond at a time; one more is refused as `too_many_unbondings`,
an exit needs none of its own."""

MISSED_VIEWS_MAX: Final = 128
"""Views without a block before one block that are charged to their leaders, the latest ones. What
is more was a network that stood still, which is no single leader's fault."""

SCORED_BLOCKS_MIN: Final = 10
"""Fewest blocks with shown votes that an epoch must have to send anybody to jail."""

AUDITED_MAX: Final = 1_000
"""Most verdicts in one reveal: everybody is audited by few, so that nobody has that many duties."""

PROBES_PER_EPOCH_MAX: Final = 64
"""Probe transactions of one auditor in an epoch; one more is refused as `too_many_probes`."""
