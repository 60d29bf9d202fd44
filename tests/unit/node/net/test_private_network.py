"""Networks whose members share a key."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from network_world import Net, Node, until
from omninode.errors import ConfigError
from omninode.node.net import handshakes
from omninode.node.net.private_network import (
    KeyMismatch,
    PrivateChannel,
    create_network_key,
    hsalsa20,
    load_network_key,
)
from omninode.node.net.settings import Plane

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
HEAD = b"\x13/multistream/1.0.0\n"


def test_the_inner_key_is_that_of_the_reference() -> None:
    # The vector of NaCl's tests, from the paper "Cryptography in NaCl".
    key = bytes.fromhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389")
    nonce = bytes.fromhex("69696ee955b62b73cd62bda875fc73d6")
    inner = "dc908dda0b9344a953629b733820778880f3ceb421bb61b91cbd4c3e66256ce4"
    assert hsalsa20(key, nonce).hex() == inner


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_what_is_sealed_is_opened_however_it_arrives(piece: int) -> None:
    sender, receiver = PrivateChannel(KEY), PrivateChannel(KEY)
    sent = sender.seal(HEAD) + sender.seal(b"x" * 500)
    assert HEAD not in sent
    heard = b"".join(
        receiver.open(sent[start : start + piece]) for start in range(0, len(sent), piece)
    )
    assert heard == HEAD + b"x" * 500


def test_two_connections_never_look_alike() -> None:
    assert PrivateChannel(KEY).seal(HEAD) != PrivateChannel(KEY).seal(HEAD)


@pytest.mark.parametrize("key", [OTHER, None])
def test_another_key_is_noticed_with_the_first_bytes(key: bytes | None) -> None:
    sent = HEAD * 10 if key is None else PrivateChannel(key).seal(HEAD)
    with pytest.raises(KeyMismatch):
        PrivateChannel(KEY).open(sent)


def test_a_key_file_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    create_network_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text().startswith("/key/swarm/psk/1.0.0/\n/base16/\n")
    assert len(load_network_key(path)) == 32
    with pytest.raises(ConfigError, match="exists already"):
        create_network_key(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="read by other users"):
        load_network_key(path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"ab" * 32, b"x" * 5_000])
def test_a_file_that_is_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "swarm.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no libp2p network key"):
        load_network_key(path)
    with pytest.raises(ConfigError, match="can not read"):
        load_network_key(tmp_path / "missing")


async def test_members_talk_as_always(net: Net) -> None:
    one, two = await net.pair(private_key=KEY)
    frame = bytes(range(256)) * 4_000
    for _ in range(5):
        assert two.network.send(one.id, Plane.DATA, frame)
    await until(lambda: len(one.frames[Plane.DATA]) == 5)
    assert {data for _, data in one.frames[Plane.DATA]} == {frame}


@pytest.mark.parametrize(("ours", "theirs"), [(KEY, OTHER), (KEY, None), (None, KEY)])
async def test_who_is_no_member_is_told_so_and_nobody_hangs(
    net: Net, monkeypatch: pytest.MonkeyPatch, ours: bytes | None, theirs: bytes | None
) -> None:
    monkeypatch.setattr(handshakes, "DIAL_TIMEOUT_MS", 500)
    monkeypatch.setattr(handshakes, "HANDSHAKE_TIMEOUT_MS", 500)
    one = await net.start(1, private_key=ours)
    two = await net.start(2, private_key=theirs, dials=(one,))
    member = one if ours is not None else two
    await until(lambda: member.events("no member of this private network"))
    (told, *_rest) = member.events("no member of this private network")
    assert "p2p.psk_file" in told["hint"]
    await until(lambda: two.info(one).last_error.startswith("dial: "))
    if theirs is not None:
        assert "private network" in two.info(one).last_error
    await trio.sleep(0.5)
    assert not _know_each_other(one, two)
    await until(lambda: not one.network._admission._handshakes)


def _know_each_other(one: Node, two: Node) -> bool:
    return one.knows(two) or two.knows(one)
