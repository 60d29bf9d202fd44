"""What became of each transaction that the devnet sent. No clock, no input or output.

Rules
    T1. A transaction is acknowledged when a validator answered with its hash, refused when one
        answered with a reason, final when a validator said so (a stored block has its result).
    T2. Latency runs from the first sending to the word `final` of the validator that it was sent
        to, at this client. If that validator has nothing to say (it died, or lags), another's word
        counts, and the waiting with it.
    T3. A transaction is remembered until it is final, refused or expired: that its nonce can not
        count any more is proven by a validator's chain time. Memory is bounded by `PENDING_MAX`;
        the sender waits at the bound.
    T4. `counts` is about the measured flow alone; the opening book and the house are tracked
        alike, but not counted.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from omninode.node.devnet.latency import Latencies
from omninode.node.devnet.limits import RECENT_MAX


@dataclass(slots=True)
class Sent:
    """One transaction under way.

    Attributes:
        orders: How many operations it carries.
        measured: Whether it belongs to the measured flow (T4).
        validator: The index of the one it was last sent to.
        sent_s: When it was first sent, on the client's clock.
        tried_s: When it was last sent or asked for.
    """

    raw: bytes
    nonce: int
    orders: int
    measured: bool
    validator: int
    sent_s: float
    tried_s: float
    acknowledged: bool = False
    final_elsewhere: bool = False


@dataclass(slots=True)
class Counts:
    """Operations of the measured flow."""

    sent: int = 0
    acknowledged: int = 0
    refused: int = 0
    final: int = 0
    expired: int = 0


@dataclass(slots=True)
class Tracker:
    """Follows transactions from sending to finality.

    Attributes:
        on_settled: Called when one is not under way any more.
        pending: Those neither final nor refused nor expired, by hash, oldest first.
        refusals: Refusals by reason, of everything sent.
        recent: `(when, latency in ms)` of the newest final ones.
        highest_final: The highest block that had one of ours.
        unmeasured_expired: How many transactions outside the measured flow have expired.
    """

    on_settled: Callable[[], None] = lambda: None
    pending: dict[bytes, Sent] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    refusals: Counter[str] = field(default_factory=Counter)
    latencies: Latencies = field(default_factory=Latencies)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))
    highest_final: int = 0
    unmeasured_expired: int = 0

    def sent(self, identifier: bytes, transaction: Sent) -> None:
        """Begin to follow a transaction."""
        self.pending[identifier] = transaction
        if transaction.measured:
            self.counts.sent += transaction.orders

    def acknowledged(self, identifier: bytes) -> None:
        """Note a validator's acknowledgement."""
        transaction = self.pending.get(identifier)
        if transaction is not None:
            self._acknowledge(transaction)

    def refused(self, identifier: bytes, reason: str) -> None:
        """Note a refusal; one that was acknowledged before stays under way (T1)."""
        transaction = self.pending.get(identifier)
        if transaction is None or transaction.acknowledged or transaction.final_elsewhere:
            return
        del self.pending[identifier]
        self.refusals[reason] += 1
        if transaction.measured:
            self.counts.refused += transaction.orders
        self.on_settled()

    def block(
        self, validator: int, height: int, identifiers: Iterable[bytes], *, now_s: float
    ) -> None:
        """Take a validator's word that a block with these transactions is final."""
        for identifier in identifiers:
            transaction = self.pending.get(identifier)
            if transaction is None:
                continue
            self.highest_final = max(self.highest_final, height)
            if transaction.validator == validator:
                self.final(identifier, now_s=now_s)
            else:
                transaction.final_elsewhere = True

    def final(self, identifier: bytes, *, now_s: float) -> None:
        """Note that a transaction is final: it was taken, whether or not that answer came (T1)."""
        transaction = self.pending.pop(identifier, None)
        if transaction is None:
            return
        self._acknowledge(transaction)
        if transaction.measured:
            self.counts.final += transaction.orders
            latency_ms = (now_s - transaction.sent_s) * 1_000
            self.latencies.add(latency_ms)
            self.recent.append((now_s, latency_ms))
        self.on_settled()

    def expired(self, identifier: bytes) -> None:
        """Note that a transaction can never be final any more (T3)."""
        transaction = self.pending.pop(identifier, None)
        if transaction is None:
            return
        if transaction.measured:
            self.counts.expired += transaction.orders
        else:
            self.unmeasured_expired += 1
        self.on_settled()

    def overdue(self, *, before_s: float) -> Iterator[tuple[bytes, Sent]]:
        """Yield those under way that were last tried before a time, oldest first."""
        for identifier, transaction in list(self.pending.items()):
            if transaction.tried_s < before_s:
                yield identifier, transaction

    def under_way(self, *, measured: bool) -> int:
        """Return how many of the measured or of the other transactions are under way."""
        return sum(transaction.measured == measured for transaction in self.pending.values())

    def _acknowledge(self, transaction: Sent) -> None:
        if not transaction.acknowledged:
            transaction.acknowledged = True
            if transaction.measured:
                self.counts.acknowledged += transaction.orders


def quantile_ms(latencies: list[float], share: float) -> float | None:
    """Return an exact quantile of a few latencies; `None` without any."""
    if not latencies:
        return None
    ordered: Final = sorted(latencies)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)
