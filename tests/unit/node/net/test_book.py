from __future__ import annotations

import random

import pytest

from network_world import identity
from omninode.encoding import encode
from omninode.errors import Malformed
from omninode.node.net.book import AddressBook, BookEntry
from omninode.node.net.exchange import (
    PeerAddress,
    PeersReply,
    PeersRequest,
    decode_reply,
    decode_request,
)
from omninode.node.net.identity import peer_id_of
from omninode.node.net.limits import (
    BOOK_ADDRESSES_PER_PEER_MAX,
    BOOK_FAILURES_MAX,
    BOOK_FORGET_MS,
    BOOK_PEERS_MAX,
    BOOK_PER_GROUP_MAX,
    BOOK_STALE_MS,
    CANDIDATE_SOURCES_MAX,
    CANDIDATES_PER_SOURCE_MAX,
    PEERS_TOLD_MAX,
)
from omninode.node.net.places import Reach
from omninode.node.net.settings import TcpAddress

NOW_MS = 1_700_000_000_000
LOCAL = identity(0).peer_id


def _book() -> AddressBook:
    return AddressBook(LOCAL, rng=random.Random(1))


def _peer(number: int) -> str:
    return peer_id_of(number.to_bytes(32, "big"))


def _at(number: int, host: str = "", port: int = 1) -> TcpAddress:
    return TcpAddress(
        host or f"8.{number >> 16}.{number >> 8 & 255}.{number & 255}", port, _peer(number)
    )


def _anybody(_peer: str) -> bool:
    return True


def _told(book: AddressBook, reach: Reach = Reach.PUBLIC, now_ms: int = NOW_MS) -> set[TcpAddress]:
    return set(book.sample(99, reach=reach, now_ms=now_ms, may_tell=_anybody))


def test_only_what_was_reached_lately_is_told() -> None:
    book = _book()
    book.name(_at(1))
    book.reached(_at(2), now_ms=NOW_MS)
    book.reached(_at(3), now_ms=NOW_MS - BOOK_STALE_MS)
    book.reached(_at(4), now_ms=NOW_MS)
    book.failed(_at(4), now_ms=NOW_MS)
    assert book.offer([_at(5)], source="8.8.8.8") == 1
    assert _told(book) == {_at(2)}


def test_private_addresses_are_told_to_who_can_use_them() -> None:
    book = _book()
    public, private, loopback = _at(1), _at(2, "10.0.0.1"), _at(3, "127.0.0.1")
    for address in (public, private, loopback):
        book.reached(address, now_ms=NOW_MS)
    assert _told(book, Reach.PUBLIC) == {public}
    assert _told(book, Reach.PRIVATE) == {public, private}
    assert _told(book, Reach.LOOPBACK) == {public, private, loopback}


def test_a_stranger_can_not_send_this_node_into_its_own_network() -> None:
    book = _book()
    inside = [_at(1, "127.0.0.1"), _at(2, "10.0.0.1"), _at(3, "169.254.1.1"), _at(4, "0.0.0.0")]
    assert book.offer(inside, source="8.8.8.8") == 0
    assert book.offer(inside, source="10.0.0.9") == 1
    assert book.offer(inside, source="nowhere") == 0


def test_a_source_that_talks_much_displaces_only_itself() -> None:
    book = _book()
    book.offer([_at(1)], source="9.9.9.9")
    for number in range(100, 100 + 10 * CANDIDATES_PER_SOURCE_MAX):
        book.offer([_at(number)], source="8.8.8.8")
    first_two = {book.take_candidate(), book.take_candidate()}
    assert _at(1) in first_two
    rest = [book.take_candidate() for _ in range(2 * CANDIDATES_PER_SOURCE_MAX)]
    assert sum(address is not None for address in rest) == CANDIDATES_PER_SOURCE_MAX - 1


def test_the_sources_of_hearsay_are_bounded() -> None:
    book = _book()
    for number in range(3 * CANDIDATE_SOURCES_MAX):
        book.offer([_at(number)], source=f"8.1.{number}.1")
    taken = 0
    while book.take_candidate() is not None:
        taken += 1
    assert taken == CANDIDATE_SOURCES_MAX


def test_hearsay_never_replaces_what_is_known() -> None:
    book = _book()
    book.reached(_at(1), now_ms=NOW_MS)
    book.offer([TcpAddress("9.9.9.9", 9, _peer(1))], source="8.8.8.8")
    assert [entry.address for entry in book.of(_peer(1))] == [_at(1)]
    assert book.offer([_at(1)], source="8.8.8.8") == 0


def test_what_fails_is_dialled_less_and_less_and_forgotten_in_the_end() -> None:
    book = _book()
    book.reached(_at(1), now_ms=NOW_MS)
    pauses, now_ms = [], NOW_MS
    for _ in range(BOOK_FAILURES_MAX):
        book.failed(_at(1), now_ms=now_ms)
        entry = next(iter(book.of(_peer(1))), None)
        if entry is not None:
            pauses.append(entry.retry_ms - now_ms)
            now_ms = entry.retry_ms
    assert pauses == sorted(pauses)
    assert pauses[:3] == [30_000, 60_000, 120_000]
    book.failed(_at(1), now_ms=NOW_MS + 2 * BOOK_FORGET_MS)
    assert not book.of(_peer(1))


def test_what_the_configuration_names_is_never_forgotten() -> None:
    book = _book()
    book.name(_at(1))
    for step in range(100):
        book.failed(_at(1), now_ms=NOW_MS + step * BOOK_FORGET_MS)
    (entry,) = book.of(_peer(1))
    assert entry.retry_ms - (NOW_MS + 99 * BOOK_FORGET_MS) == 60_000


def test_one_machine_can_not_fill_the_book() -> None:
    book = _book()
    for number in range(10 * BOOK_PER_GROUP_MAX):
        book.reached(_at(number, "8.8.8.8", number + 1), now_ms=NOW_MS)
        book.reached(_at(5_000 + number, f"2600::{number:x}", 1), now_ms=NOW_MS)
    assert len(book) == 2 * BOOK_PER_GROUP_MAX


def test_a_full_book_loses_what_failed_then_what_is_oldest() -> None:
    book = _book()
    book.name(_at(0))
    for number in range(1, BOOK_PEERS_MAX):
        book.reached(_at(number), now_ms=NOW_MS + number)
    book.failed(_at(500), now_ms=NOW_MS)
    book.reached(_at(BOOK_PEERS_MAX), now_ms=NOW_MS)
    book.reached(_at(BOOK_PEERS_MAX + 1), now_ms=NOW_MS)
    assert len(book) == BOOK_PEERS_MAX
    assert not book.of(_peer(500))
    assert not book.of(_peer(BOOK_PEERS_MAX))
    assert book.of(_peer(0))
    assert book.of(_peer(1))


def test_a_peer_has_few_addresses() -> None:
    book = _book()
    for port in range(1, 20):
        book.reached(_at(1, "8.8.8.8", port), now_ms=NOW_MS + port)
    kept = {entry.address.port for entry in book.of(_peer(1))}
    assert kept == set(range(20 - BOOK_ADDRESSES_PER_PEER_MAX, 20))


def test_this_node_is_not_in_its_book() -> None:
    book = _book()
    own = TcpAddress("8.8.8.8", 1, LOCAL)
    book.name(own)
    book.reached(own, now_ms=NOW_MS)
    book.restore(BookEntry(own, NOW_MS), now_ms=NOW_MS)
    assert book.offer([own], source="8.8.8.8") == 0
    assert len(book) == 0


def test_what_was_reached_is_dialled_before_what_is_only_named() -> None:
    book = _book()
    book.name(_at(1))
    book.reached(_at(2), now_ms=NOW_MS)
    assert book.due(now_ms=NOW_MS, wants=_anybody) == _at(2)
    book.failed(_at(2), now_ms=NOW_MS)
    assert book.due(now_ms=NOW_MS, wants=_anybody) == _at(1)
    assert book.due(now_ms=NOW_MS, wants=lambda peer: peer == _peer(2)) is None


GOOD = PeerAddress(_peer(1), "8.8.8.8", 1)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x91\x91\x93\xc0\xc0\xc0",
        encode(PeersReply((GOOD,) * (PEERS_TOLD_MAX + 1))),
        encode(PeersReply((PeerAddress("", "8.8.8.8", 1),))),
        encode(PeersReply((PeerAddress("1" * 52, "8.8.8.8", 1),))),
        encode(PeersReply((PeerAddress(_peer(1) + "0", "8.8.8.8", 1),))),
        encode(PeersReply((PeerAddress(_peer(1), "example.org", 1),))),
        encode(PeersReply((PeerAddress(_peer(1), "fe80::1%eth0", 1),))),
        encode(PeersReply((PeerAddress(_peer(1), "2600:0::1", 1),))),
        encode(PeersReply((PeerAddress(_peer(1), "8.8.8.8", 0),))),
        encode(PeersReply((PeerAddress(_peer(1), "8.8.8.8", 65_536),))),
        encode(PeersReply((PeerAddress(_peer(1), "8.8.8.8", -1),))),
        b"\x91\xdd\xff\xff\xff\xff",
    ],
)
def test_a_bad_answer_is_refused_as_a_whole(bad: bytes) -> None:
    with pytest.raises(Malformed):
        decode_reply(bad)


def test_a_full_answer_fits_into_its_bound() -> None:
    long = PeerAddress(_peer(1), "2600:1111:2222:3333:4444:5555:6666:7777", 65_535)
    assert len(decode_reply(encode(PeersReply((long,) * PEERS_TOLD_MAX)))) == PEERS_TOLD_MAX


@pytest.mark.parametrize("port", [-1, 65_536, 1 << 40])
def test_a_request_with_an_impossible_port_is_refused(port: int) -> None:
    with pytest.raises(Malformed):
        decode_request(encode(PeersRequest(port)))
