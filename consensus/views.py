"""What is known of each view: certificates, proposal, votes, and which views are nullified.

Nothing here grows without finality beyond `CERTIFIED_VIEWS_KEPT_MAX` views: older certificates are
dropped and only the ranges of nullified views remain.
"""

from __future__ import annotations

from collections.abc import Iterable

from omninode.consensus.limits import (
    CERTIFIED_VIEWS_KEPT_MAX,
    VIEWS_KEPT_BEHIND_FINAL,
    VOTE_VIEWS_KEPT,
)
from omninode.consensus.types import Certificate, Proposal, VoteKind
from omninode.consensus.votes import ViewVotes


class ViewRecord:
    """One view. `proposal` is its leader's first one; `invalid`: we shall not vote for it."""

    __slots__ = ("finalization", "invalid", "notarizations", "nullification", "proposal", "votes")

    def __init__(self) -> None:
        self.notarizations: dict[bytes, Certificate] = {}
        self.nullification: Certificate | None = None
        self.finalization: Certificate | None = None
        self.proposal: Proposal | None = None
        self.invalid = False
        self.votes: ViewVotes | None = None

    def certificates(self) -> Iterable[Certificate]:
        """Return what lets a peer leave this view."""
        if self.nullification is not None:
            yield self.nullification
        yield from self.notarizations.values()


class ViewRanges:
    """A set of views as merged ranges; adding one and finding a run take constant time."""

    def __init__(self) -> None:
        self._end_of: dict[int, int] = {}
        self._start_of: dict[int, int] = {}

    def add(self, view: int) -> None:
        """Add a view that is not in the set."""
        start = self._start_of.pop(view - 1, view)
        end = self._end_of.pop(view + 1, view)
        self._end_of[start] = end
        self._start_of[end] = start

    def run_start(self, end: int) -> int:
        """Return where the run that ends at `end` begins, `end + 1` if no run ends there."""
        return self._start_of.get(end, end + 1)

    def drop_below(self, view: int) -> None:
        """Forget all runs that end below `view`."""
        for start in [s for s, end in self._end_of.items() if end < view]:
            del self._start_of[self._end_of.pop(start)]


class Views:
    """All views that are not final, and a few behind."""

    def __init__(self) -> None:
        self._records: dict[int, ViewRecord] = {}
        self._dropped_below = 0
        self._compact_below = 0
        self.nullified = ViewRanges()
        self.highest_notarized = 0
        self.highest_certified = 0

    def record(self, view: int) -> ViewRecord:
        """Return the record of a view, made if there is none."""
        record = self._records.get(view)
        if record is None:
            record = self._records[view] = ViewRecord()
        return record

    def find(self, view: int) -> ViewRecord | None:
        """Return the record of a view, if there is one."""
        return self._records.get(view)

    def votes(self, view: int) -> ViewVotes:
        """Return the votes of a view, made empty if there are none."""
        record = self.record(view)
        if record.votes is None:
            record.votes = ViewVotes()
        return record.votes

    def __len__(self) -> int:
        return len(self._records)

    def has(self, kind: VoteKind, view: int, block_hash: bytes) -> bool:
        """Whether this certificate is held."""
        record = self._records.get(view)
        if record is None:
            return False
        if kind is VoteKind.NOTARIZE:
            return block_hash in record.notarizations
        if kind is VoteKind.NULLIFY:
            return record.nullification is not None
        return record.finalization is not None and record.finalization.block_hash == block_hash

    def is_certified(self, view: int) -> bool:
        """Whether a notarization or nullification of the view is held."""
        record = self._records.get(view)
        return record is not None and (
            record.nullification is not None or bool(record.notarizations)
        )

    def store(self, certificate: Certificate) -> None:
        """Keep a certificate that is not held yet."""
        view = certificate.view
        record = self.record(view)
        if certificate.kind is VoteKind.NOTARIZE:
            record.notarizations[certificate.block_hash] = certificate
            self.highest_notarized = max(self.highest_notarized, view)
        elif certificate.kind is VoteKind.NULLIFY:
            record.nullification = certificate
            self.nullified.add(view)
        else:
            record.finalization = certificate
        self.highest_certified = max(self.highest_certified, view)
        if view < self._compact_below:
            record.votes = None

    def last_not_nullified(self, before: int) -> int:
        """Return the highest view below `before` without a nullification."""
        return self.nullified.run_start(before - 1) - 1

    def trim(self, *, view: int, final_view: int) -> list[bytes]:
        """Drop what nobody needs; return hashes of proposed blocks that never were notarized."""
        lost: list[bytes] = []
        compact_below = view - VOTE_VIEWS_KEPT
        for old in self._span(self._compact_below, compact_below):
            record = self._records[old]
            record.votes = None
            if record.proposal is not None:
                if not record.notarizations:
                    lost.append(record.proposal.block.hash)
                record.proposal = None
        self._compact_below = max(self._compact_below, compact_below)
        drop_below = max(final_view - VIEWS_KEPT_BEHIND_FINAL, view - CERTIFIED_VIEWS_KEPT_MAX)
        for old in self._span(self._dropped_below, drop_below):
            del self._records[old]
        self._dropped_below = max(self._dropped_below, drop_below)
        self.nullified.drop_below(final_view)
        return lost

    def _span(self, start: int, stop: int) -> list[int]:
        if stop - start > len(self._records):
            return [view for view in sorted(self._records) if start <= view < stop]
        return [view for view in range(start, stop) if view in self._records]
