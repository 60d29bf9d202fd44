"""Where a halted node's state left the network's, by what peers can prove."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from omninode.consensus.driver.service import Halted
from omninode.crypto import keccak256
from omninode.dex.hashing import MODULES, chain_hash
from omninode.dex.outcomes import HashParts
from omninode.encoding import decode, encode
from omninode.errors import Malformed, PeerFault
from omninode.node.divergence import (
    PARTS_BURST,
    PARTS_MAX,
    PARTS_REPLY_BYTES_MAX,
    Divergence,
    DivergenceFinder,
    PartsReply,
    PartsRequest,
)
from omninode.storage.records import StoredParts

GENESIS = keccak256(b"genesis")
HEIGHT = 10


def chain_of(*changes: tuple[int, str], until: int = HEIGHT) -> dict[int, StoredParts]:
    """Return the parts of a chain by height; from `height` on, `module` is another one's."""
    stored: dict[int, StoredParts] = {}
    previous = GENESIS
    for height in range(1, until + 1):
        changed = {module for at, module in changes if at == height}
        modules = tuple((m, keccak256(f"{height}{m}{m in changed}".encode())) for m in MODULES)
        parts = HashParts(keccak256(f"results{height}".encode()), modules)
        previous = chain_hash(previous, height, parts)
        stored[height] = StoredParts(previous, parts)
    return stored


class Chain:
    def __init__(self, stored: dict[int, StoredParts]) -> None:
        self.stored = stored

    def parts(self, height: int) -> StoredParts | None:
        return self.stored.get(height)


class Peers:
    """Peers that answer with prepared parts."""

    def __init__(self, **answers: object) -> None:
        self.answers = answers

    def connected_peers(self) -> tuple[str, ...]:
        return tuple(self.answers)

    async def request(self, peer: str, _protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        answer = self.answers[peer]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, bytes):
            return answer
        assert isinstance(answer, dict)
        request = decode(payload, PartsRequest, size_max=64)
        heights = range(request.from_height, request.to_height + 1)
        return encode(PartsReply(tuple(answer[h] for h in heights if h in answer)))


async def find(ours: dict[int, StoredParts], height: int = HEIGHT, **answers: Any) -> Any:
    truth = answers["honest"]
    finder = DivergenceFinder(Peers(**answers), Chain(ours), genesis_app_hash=GENESIS)  # type: ignore[arg-type]
    return await finder.find(Halted(height, truth[height].app_hash, ours[height].app_hash))


@pytest.mark.parametrize("height", [1, 2, 7, HEIGHT])
async def test_the_first_height_and_its_module_are_named(
    autojump_clock: MockClock, height: int
) -> None:
    found = await find(chain_of((height, "orders"), (HEIGHT, "accounts")), honest=chain_of())
    assert found.height == height
    assert "orders" in found.modules


async def test_a_difference_older_than_what_is_compared_is_the_past(
    autojump_clock: MockClock,
) -> None:
    last = PARTS_MAX + 20
    ours, truth = chain_of((3, "orders"), until=last), chain_of(until=last)
    del ours[last - PARTS_MAX]
    assert await find(ours, last, honest=truth) == Divergence(last - PARTS_MAX + 1, ())


async def test_what_does_not_chain_is_not_believed(autojump_clock: MockClock) -> None:
    truth, ours = chain_of(), chain_of((7, "orders"))
    invented = {**truth, 4: StoredParts(keccak256(b"lie"), truth[4].parts)}
    other_parts = {**truth, 7: StoredParts(truth[7].app_hash, ours[7].parts)}
    only_last = {HEIGHT: truth[HEIGHT]}
    found = await find(
        ours,
        silent=PeerFault("timeout"),
        rubbish=b"\xc1",
        empty={},
        liar=invented,
        actor=other_parts,
        short=only_last,
        honest=truth,
    )
    assert found == Divergence(7, ("orders",))


async def test_nobody_who_can_prove_it_means_no_answer(autojump_clock: MockClock) -> None:
    ours = chain_of((7, "orders"))
    finder = DivergenceFinder(Peers(liar=ours), Chain(ours), genesis_app_hash=GENESIS)  # type: ignore[arg-type]
    assert await finder.find(Halted(HEIGHT, keccak256(b"x"), ours[HEIGHT].app_hash)) is None


async def test_serving_is_bounded(autojump_clock: MockClock) -> None:
    finder = DivergenceFinder(Peers(), Chain(chain_of(until=200)), genesis_app_hash=GENESIS)  # type: ignore[arg-type]

    async def served(first: int, last: int, peer: str = "p") -> int:
        answer = await finder.serve(peer, encode(PartsRequest(first, last)))
        assert len(answer) < PARTS_REPLY_BYTES_MAX
        return len(decode(answer, PartsReply, size_max=len(answer)).parts)

    assert await served(1, 10) == 10
    assert await served(1, 2**63 - 1) == PARTS_MAX
    assert await served(5, 4) == 0
    assert await served(0, 3) == 0
    assert await served(2**63 - 1, 2**63 - 1) == 0
    for _ in range(PARTS_BURST // PARTS_MAX + 1):
        await served(1, PARTS_MAX)
    assert await served(1, 1) == 0
    assert await served(1, 1, "other") == 1
    await trio.sleep(1)
    assert await served(1, 1) == 1
    with pytest.raises(Malformed):
        await finder.serve("p", b"\xc1")
