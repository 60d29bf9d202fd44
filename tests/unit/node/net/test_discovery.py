"""Real networks that find each other over loopback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from network_world import TAG, Net, Node, identity, until
from omninode.encoding import encode
from omninode.errors import PeerFault
from omninode.node.net import discovery, exchange
from omninode.node.net.exchange import PEERS_PROTOCOL, PeersRequest, decode_reply
from omninode.node.net.limits import BAN_MAX_MS
from omninode.node.net.requests import RequestFailed


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, constant, value in (
        (discovery, "DISCOVERY_INTERVAL_MS", 20),
        (discovery, "PROBE_INTERVAL_MS", 10),
        (discovery, "VALIDATORS_ASK_INTERVAL_MS", 50),
        (discovery, "PEERS_ASK_INTERVAL_MS", 200),
        (exchange, "PEERS_TELL_INTERVAL_MS", 0),
    ):
        monkeypatch.setattr(module, constant, value)


def _book(node: Node) -> set[str]:
    return {entry.address.peer_id for entry in _discovery(node)._book.entries()}


def _discovery(node: Node) -> Any:
    return node.network._discovery


def _validators(*numbers: int) -> frozenset[str]:
    return frozenset(identity(number).peer_id for number in numbers)


async def test_a_node_finds_all_others_from_one_bootstrap_address(net: Net) -> None:
    first = await net.start(1)
    nodes = [first] + [
        await net.start(number, bootstrap=(first.address,)) for number in range(2, 7)
    ]
    for node in nodes:
        await until(
            lambda node=node: len(node.network.connected_peers()) == len(nodes) - 1, within_s=20
        )


async def test_no_more_peers_are_dialled_than_are_wanted(net: Net) -> None:
    first = await net.start(1, outbound_peers=0)
    for number in range(2, 6):
        await net.start(number, bootstrap=(first.address,), outbound_peers=1)
    await until(lambda: len(_book(first)) == 4)
    late = await net.start(6, bootstrap=(first.address,), outbound_peers=2)
    await until(lambda: len(_book(late)) >= 3 and len(late.network.connected_peers()) == 2)
    await trio.sleep(0.3)
    outbound = [s for s in late.network._sessions.all() if s.direction == "outbound"]
    assert len(outbound) == 2
    assert not [s for s in first.network._sessions.all() if s.direction == "outbound"]


async def test_validators_find_each_other_and_strangers_are_not_told(net: Net) -> None:
    validators = _validators(1, 2, 3)
    first = await net.start(1, validator_peers=validators, outbound_peers=0)
    bootstrap = (first.address,)
    two, three = [
        await net.start(n, validator_peers=validators, bootstrap=bootstrap, outbound_peers=0)
        for n in (2, 3)
    ]
    await until(lambda: two.knows(first) and three.knows(first), within_s=20)
    stranger = await net.start(4, validator_peers=validators, bootstrap=bootstrap)
    await until(lambda: two.knows(three) and len(two.info(three).planes) == 2, within_s=20)
    await until(lambda: stranger.knows(first))
    await trio.sleep(0.5)
    assert _book(stranger) == {first.id}
    assert not stranger.knows(two)


async def test_a_new_validator_is_linked_with_all_others(net: Net) -> None:
    old = _validators(1, 2)
    one = await net.start(1, validator_peers=old, outbound_peers=0)
    two = await net.start(2, validator_peers=old, dials=(one,), outbound_peers=0)
    new = await net.start(3, validator_peers=old, bootstrap=(one.address,), outbound_peers=1)
    await until(lambda: new.knows(one))
    assert not new.knows(two)
    for node in (one, two, new):
        node.network.set_validator_peers(_validators(1, 2, 3))
    await until(lambda: new.knows(two) and len(new.info(two).planes) == 2, within_s=20)
    await until(lambda: len(new.info(one).planes) == 2)


async def test_the_book_outlives_the_process_and_bans_do(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    one = await net.start(1, outbound_peers=0)
    two = net.make(2, bootstrap=(one.address,), book_path=path)
    async with net.running(two):
        await until(lambda: two.knows(one))
        two.network.penalize(identity(9).peer_id, PeerFault("rubbish", "once", penalty=200))
    assert path.stat().st_mode & 0o777 == 0o600
    content = json.loads(path.read_text())
    assert [entry["peer_id"] for entry in content["addresses"]] == [one.id]
    again = net.make(2, book_path=path)
    async with net.running(again):
        await until(lambda: again.knows(one))
        banned = again.info(identity(9).peer_id)
        assert banned.banned_until_ms > 0
        assert banned.ban_reason == "rubbish: once"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{}",
        b"[" * 100_000,
        json.dumps({"format": 1, "network": "ef" * 32, "addresses": [], "bans": []}).encode(),
    ],
)
async def test_a_book_that_can_not_be_read_is_put_aside(
    net: Net, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "peers.json"
    path.write_bytes(content)
    one = net.make(1, book_path=path)
    async with net.running(one):
        await until(lambda: one.events("address book put aside"))
    assert path.with_suffix(".unusable").read_bytes() == content


async def test_a_book_is_believed_no_more_than_a_stranger(net: Net, tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    good, far_ms = identity(5).peer_id, 1 << 60
    addresses = [
        {"peer_id": peer, "host": host, "port": port, "reached_ms": far_ms, "failures": 0}
        for peer, host, port in (
            (good, "192.0.2.1", 1),
            ("nobody", "192.0.2.1", 1),
            (good, "example.org", 1),
            (good, "192.0.2.1", 0),
            (good, "224.0.0.1", 1),
            (identity(1).peer_id, "192.0.2.1", 1),
        )
    ]
    ban = {"peer_id": good, "until_ms": far_ms, "reason": "for ever", "count": 1}
    book = {"format": 1, "network": TAG, "addresses": addresses, "bans": [ban]}
    path.write_text(json.dumps(book))
    one = net.make(1, book_path=path, outbound_peers=0)
    async with net.running(one):
        await until(lambda: _book(one) == {good})
        (entry,) = _discovery(one)._book.entries()
        assert entry.reached_ms < far_ms
        assert not one.network._table.bans(now_ms=far_ms - BAN_MAX_MS)


async def test_a_disk_that_is_full_costs_the_book_and_nothing_else(
    net: Net, tmp_path: Path
) -> None:
    one = await net.start(1, outbound_peers=0)
    two = net.make(2, bootstrap=(one.address,), book_path=tmp_path / "missing" / "peers.json")
    async with net.running(two):
        await until(lambda: two.knows(one))
    assert two.events("address book not written")


# --- Lies ----------------------------------------------------------------------------------------


async def _ask(asker: Node, answerer: Node, payload: bytes) -> bytes:
    answer: bytes = await asker.network.request(
        answerer.id, PEERS_PROTOCOL, payload, timeout_ms=2_000
    )
    return answer


async def test_who_lies_about_its_port_is_told_of_to_nobody(net: Net) -> None:
    one = await net.start(1, outbound_peers=0)
    liar = await net.start(2, dials=(one,), outbound_peers=0)
    await until(lambda: liar.knows(one) and one.knows(liar))
    other = await net.start(3, outbound_peers=0)
    port = other.network._listener.addresses[0].port
    await _ask(liar, one, encode(PeersRequest(port)))
    await until(lambda: one.events("probe failed"))
    entries = _discovery(one)._book.entries()
    assert {entry.address.text() for entry in entries} <= {liar.address}
    assert decode_reply(await _ask(liar, one, encode(PeersRequest(0)))) == []


async def test_what_answers_is_told_and_what_does_not_is_not(net: Net) -> None:
    one = await net.start(1, outbound_peers=0)
    two = await net.start(2, bootstrap=(one.address,), outbound_peers=1)
    await until(lambda: _book(one) == {two.id})
    asker = await net.start(3, dials=(one,), outbound_peers=0)
    await until(lambda: asker.knows(one) and one.knows(asker))
    (told,) = decode_reply(await _ask(asker, one, encode(PeersRequest(0))))
    assert f"{told.text()}" == two.address


async def test_who_asks_again_and_again_is_refused(
    net: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "PEERS_TELL_INTERVAL_MS", 60_000)
    one = await net.start(1, outbound_peers=0)
    two = await net.start(2, dials=(one,), outbound_peers=0)
    await until(lambda: two.knows(one) and one.knows(two))
    session = one.network._sessions.ready(two.id)
    assert session is not None
    await until(lambda: session.told_peers_ms)
    with pytest.raises(RequestFailed, match="too soon"):
        await _ask(two, one, encode(PeersRequest(0)))
    assert one.info(two).score == 0


async def test_an_answer_in_bad_form_costs_who_gave_it(net: Net) -> None:
    async def lie(_peer: str, _request: bytes) -> bytes:
        return b"\x91\xc0"

    one = await net.start(1, outbound_peers=0)
    one.network._protocols.pop(PEERS_PROTOCOL)
    one.network.on_request(PEERS_PROTOCOL, lie, max_request_bytes=64, max_response_bytes=9_999)
    two = await net.start(2, dials=(one,))
    await until(lambda: two.info(one).score < 0)
    assert two.info(one).last_error.startswith("bad_peers")


async def test_a_validator_does_not_show_strangers_where_it_is(net: Net) -> None:
    validators = _validators(1, 2)
    one = await net.start(1, validator_peers=validators)
    two = await net.start(2, dials=(one,), validator_peers=validators)
    stranger = await net.start(3, bootstrap=(one.address,), validator_peers=validators)
    await until(lambda: stranger.id in _book(one))
    await until(lambda: len(two.info(one).planes) == 2)
    await trio.sleep(1)
    assert not two.knows(stranger)
    assert stranger.id not in _book(two)
    assert two.id not in {info.id for info in stranger.network.peers()}
