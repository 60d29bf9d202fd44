from __future__ import annotations

import stat
from pathlib import Path

import pytest

from omninode.errors import ConfigError
from omninode.node.net.identity import NodeIdentity


def test_the_peer_id_is_the_one_libp2p_derives() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    seed = bytes(range(32))
    expected = ID.from_pubkey(create_new_key_pair(seed).public_key).to_base58()
    assert NodeIdentity.from_seed(seed).peer_id == expected


def test_the_file_is_private_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "node_key"
    created = NodeIdentity.create(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert NodeIdentity.load(path) == created
    assert created.seed.hex() not in repr(created)


def test_the_file_is_the_protobuf_of_the_specification(tmp_path: Path) -> None:
    from libp2p.crypto.pb.crypto_pb2 import PrivateKey

    path = tmp_path / "node_key"
    created = NodeIdentity.create(path)
    message = PrivateKey.FromString(path.read_bytes())
    assert message.key_type == 1
    assert message.data[:32] == created.seed
    assert len(message.data) == 64


def test_an_existing_key_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "node_key"
    created = NodeIdentity.create(path)
    with pytest.raises(ConfigError, match="exists already"):
        NodeIdentity.create(path)
    assert NodeIdentity.load(path) == created


def test_what_is_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "node_key"
    with pytest.raises(ConfigError, match="can not read"):
        NodeIdentity.load(path)
    NodeIdentity.create(path)
    data = path.read_bytes()
    for bad in (b"", data[:-1], b"x" + data[1:], data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(bad)
        with pytest.raises(ConfigError, match="not an Ed25519"):
            NodeIdentity.load(path)
    path.write_bytes(data)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="other users"):
        NodeIdentity.load(path)
