"""`eth_getLogs`: filters, and the search through blocks that hold logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eth_bloom import BloomFilter

from omninode.contracts.devchain.blocks import Block, LogRecord
from omninode.contracts.devchain.chain import Chain
from omninode.contracts.devchain.limits import LOG_FILTER_MAX, LOGS_MAX
from omninode.contracts.devchain.quantities import read_data
from omninode.contracts.devchain.refusals import invalid, over_limit
from omninode.contracts.devchain.views import Json, log_views

_TOPICS_MAX = 4


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are wanted; empty sets stand for any."""

    addresses: frozenset[bytes]
    topics: tuple[frozenset[bytes], ...]

    def may_be_in(self, bloom: int) -> bool:
        """Whether a block with this bloom filter may hold such logs."""
        if not self.addresses and not any(self.topics):
            return True
        filled = BloomFilter(bloom)
        return all(
            not wanted or any(item in filled for item in wanted)
            for wanted in (self.addresses, *self.topics)
        )

    def matches(self, log: LogRecord) -> bool:
        """Whether a log is wanted."""
        if self.addresses and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        return all(
            not wanted or topic in wanted
            for wanted, topic in zip(self.topics, log.topics, strict=False)
        )


def read_filter(given: dict[str, Any]) -> LogFilter:
    """Read the addresses and topics of a filter.

    Raises:
        CallRefused: They are malformed, or too many.
    """
    topics = given.get("topics")
    if topics is None:
        topics = []
    if not isinstance(topics, list) or len(topics) > _TOPICS_MAX:
        raise invalid(0, f"topics: an array of at most {_TOPICS_MAX} is wanted")
    return LogFilter(
        addresses=_alternatives(given.get("address"), 20),
        topics=tuple(_alternatives(topic, 32) for topic in topics),
    )


def _alternatives(given: object, size: int) -> frozenset[bytes]:
    if given is None:
        return frozenset()
    items = given if isinstance(given, list) else [given]
    if len(items) > LOG_FILTER_MAX:
        raise over_limit(f"more than {LOG_FILTER_MAX} alternatives in a filter")
    if None in items:
        return frozenset()  # Any is among the alternatives.
    return frozenset(read_data(item, 0, size=size) for item in items)


def logs_of_block(block: Block, wanted: LogFilter) -> list[Json]:
    """Return the wanted logs of one block."""
    return list(_logs_of(block, wanted))


def logs_of_range(chain: Chain, wanted: LogFilter, first: int, last: int) -> list[Json]:
    """Return the wanted logs of the main chain's blocks from `first` to `last`.

    Raises:
        CallRefused: There are more than `LOGS_MAX`.
    """
    found: list[Json] = []
    for block_hash, bloom in chain.blocks_with_logs(first, last):
        if not wanted.may_be_in(bloom):
            continue
        block = chain.block(block_hash)
        if block is not None:
            found.extend(_logs_of(block, wanted))
        if len(found) > LOGS_MAX:
            raise over_limit(f"query returned more than {LOGS_MAX} results")
    return found


def _logs_of(block: Block, wanted: LogFilter) -> Iterator[Json]:
    if not block.header.bloom or not wanted.may_be_in(block.header.bloom):
        return
    for index, record in enumerate(block.records):
        if any(map(wanted.matches, record.logs)):
            for log, view in zip(record.logs, log_views(block, index), strict=True):
                if wanted.matches(log):
                    yield view
