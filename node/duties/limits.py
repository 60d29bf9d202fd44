"""Every bound of a validator's duties, and what happens at the bound."""

from __future__ import annotations

from typing import Final

PROBE_DEADLINE_MS: Final = 5_000
"""How long an audited node has to make a probe final; later is worth nothing."""

PROBE_BYTES_MAX: Final = 1_024
"""Longest probe on the wire."""

PROBE_REPLY_BYTES_MAX: Final = 64
"""Longest answer to one."""

PROBES_SERVED_BURST: Final = 8
"""Probes of one auditor that are served at once; more are refused."""

PROBES_SERVED_PER_SECOND: Final = 1
"""The same, in the long run."""

FRESH_MS: Final = 15_000
"""A node whose newest block is older has not caught up, whatever it thinks."""

AUDIT_FROM_PERCENT: Final = 5
AUDIT_UNTIL_PERCENT: Final = 60
"""When in an epoch probes are sent, at a time that the audited can not know."""

COMMIT_FROM_PERCENT: Final = 70
"""When verdicts are committed to; probes that are not answered then were not."""
