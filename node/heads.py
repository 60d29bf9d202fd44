"""News of finalized blocks for nodes outside of the validator mesh, over GossipSub.

Rules
    H1. The proposer of a block says its height once the block is on its disk; so each height is
        said once, and not at all while nobody listens.
    H2. Only what validators say is believed and passed on, from each of them only growing heights.
        A height that nobody has costs a few questions, since blocks prove themselves (Y4 of sync).
    H3. News may be lost; who listens also asks for new blocks at a steady pace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import trio

from omninode.consensus.types import Header
from omninode.encoding import decode, encode
from omninode.node.net.service import Network

HEADS_TOPIC: Final = "heads"
HEAD_BYTES_MAX: Final = 16
"""One message. Overflow: a fault."""

PAUSE_MS: Final = 20
"""Shortest time between two questions that news lead to. Overflow: not asked, H3 does."""


class Head(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Says that a block is final.

    Attributes:
        height: Its height.
    """

    height: int


class HeadNews:
    """Tells and hears of new heads.

    Args:
        network: The peers.
        own_index: This node's place in the validator set, if it has one.
        own_height: The newest height that it has executed.
        fetch: Asks peers for newer blocks.
    """

    def __init__(
        self,
        network: Network,
        *,
        own_index: Callable[[], int | None],
        own_height: Callable[[], int],
        fetch: Callable[[], None],
    ) -> None:
        self._network = network
        self._own_index = own_index
        self._own_height = own_height
        self._fetch = fetch
        self._heard: dict[str, int] = {}
        self._fetched_s = -1.0
        if own_index() is None:
            network.subscribe(HEADS_TOPIC, self.hear)
        else:
            network.speak(HEADS_TOPIC)

    def stored(self, header: Header) -> None:
        """Tell of a block that is on disk, if it is this node's to tell (H1)."""
        if header.proposer == self._own_index() and self._network.has_listeners(HEADS_TOPIC):
            self._network.publish(HEADS_TOPIC, encode(Head(header.height)))

    async def hear(self, author: str, data: bytes) -> bool:
        """Take news; false if they are none (H2).

        Raises:
            Malformed: They are in bad form.
        """
        head = decode(data, Head, size_max=HEAD_BYTES_MAX)
        validators = self._network.validator_peers
        if author not in validators or head.height <= self._heard.get(author, 0):
            return False
        self._heard = {name: seen for name, seen in self._heard.items() if name in validators}
        self._heard[author] = head.height
        now_s = trio.current_time()
        if head.height > self._own_height() and now_s - self._fetched_s >= PAUSE_MS / 1000:
            self._fetched_s = now_s
            self._fetch()
        return True
