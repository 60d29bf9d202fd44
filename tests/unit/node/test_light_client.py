"""A light client believes signatures from genesis on, and nothing that a node says besides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import msgspec
import pytest
from tests.exchange_world import VALIDATORS, make_settled_genesis
from tests.sealed_chain import SealedChain, validator_keys

from omninode.crypto import keccak256
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import checkpoint_digest, compact_signature
from omninode.dex.documents import checkpoint_document
from omninode.dex.exchange import Exchange
from omninode.encoding import encode
from omninode.errors import PeerFault, UserError
from omninode.node.cli import light
from omninode.node.cli.main import main
from omninode.node.light_client import LightClient
from omninode.node.rpc.methods.epochs import GetEpochs, get_epochs

GENESIS = make_settled_genesis()
CHECKPOINT = Checkpoint(
    7, 0, 90, 1_700_000_000_500, *(keccak256(b"%d" % n) for n in range(2)), 3, keccak256(b"f"), 5,
    keccak256(b"d"),
)  # fmt: skip


@pytest.fixture
async def source(tmp_path: Path) -> AsyncIterator[SealedChain]:
    made = SealedChain(tmp_path / "source", GENESIS, validator_keys(4))
    await made.begin()
    yield made
    made.database.close()


def signed(checkpoint: Checkpoint, *validators: int) -> dict[str, Any]:
    """Return a checkpoint as `omni_getCheckpoint` shows it."""
    digest = checkpoint_digest(checkpoint, Exchange.genesis(GENESIS).state.bridge.domain)
    signatures = [compact_signature(VALIDATORS[i].sign(digest)).hex() for i in validators]
    return {**checkpoint_document(checkpoint), "signatures": [f"0x{s}" for s in signatures]}


class Node:
    """Answers as a node with the stored chain does."""

    url = "http://a.test"

    def __init__(self, source: SealedChain, checkpoint: dict[str, Any] | None = None) -> None:
        parts: Any = SimpleNamespace(chain=source.chain, exchange=source.exchange, list_max=1_000)
        self.context: Any = SimpleNamespace(node=parts)
        self.checkpoint = checkpoint
        self.limit = 1_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        if method == "omni_getEpochs":
            asked = GetEpochs(from_=(params or {})["from"], limit=self.limit)
            return json.loads(json.dumps(get_epochs.function(self.context, asked)))
        assert method == "omni_getCheckpoint"
        if self.checkpoint is None:
            raise UserError("unknown_checkpoint", "no checkpoint is certified yet")
        return json.loads(json.dumps(self.checkpoint))


async def _sealed(source: SealedChain, epochs: int) -> None:
    for _ in range(epochs):
        await source.grow(2)
        await source.seal_epoch(fillers=1)


async def test_it_follows_every_epoch_page_by_page(source: SealedChain) -> None:
    await _sealed(source, 5)
    node, client = Node(source), LightClient(GENESIS)
    node.limit = 2
    told: list[str] = []
    assert light._follow(client, node, told.append) == 5  # type: ignore[arg-type]
    assert client.validators == source.validators
    assert client.newest == source.chain.epoch_proof(4)
    assert told == [f"epoch {epoch}" for epoch in range(1, 6)]


async def test_a_proof_left_out_or_changed_is_refused(source: SealedChain) -> None:
    await _sealed(source, 2)
    first, second = (source.chain.epoch_proof(epoch) for epoch in (0, 1))
    assert first is not None
    client = LightClient(GENESIS)
    changed = msgspec.structs.replace(first, validators=source.validators)
    for wrong in (encode(second), encode(changed), b"", encode(first)[:-1]):
        with pytest.raises(PeerFault):
            client.follow(wrong)
    assert client.newest is None
    client.follow(encode(first))
    assert client.validators.epoch == 1


def test_a_checkpoint_needs_more_than_two_thirds_of_its_epoch() -> None:
    client = LightClient(GENESIS)
    assert client.check_checkpoint(signed(CHECKPOINT, 0, 2, 3)) == CHECKPOINT
    good = signed(CHECKPOINT, 0, 1, 2)
    wrong: list[dict[str, Any]] = [
        signed(CHECKPOINT, 0, 1),
        signed(CHECKPOINT, 0, 0, 1, 1),
        signed(CHECKPOINT, 0, 1, 5),
        signed(CHECKPOINT),
        good | {"state_root": "0x" + bytes(32).hex()},
        good | {"number": 8},
        good | {"number": "0x08"},
        good | {"height": -1},
        good | {"state_root": "0x00"},
        good | {"state_root": "no hex"},
        good | {"signatures": ["0x00"]},
        good | {"signatures": None},
        good | {"signatures": ["0x" + bytes(64).hex()] * 3},
        signed(msgspec.structs.replace(CHECKPOINT, epoch=1), 0, 1, 2),
        {},
    ]
    for document in wrong:
        with pytest.raises(PeerFault):
            client.check_checkpoint(document)


async def test_the_command_tells_what_is_proven_and_what_is_not(
    source: SealedChain,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    await _sealed(source, 3)
    path = tmp_path / "genesis.json"
    path.write_bytes(GENESIS.to_json())
    node = Node(source)
    monkeypatch.setattr(light, "connect", lambda _rpc: node)

    def verify(*, code: int) -> dict[str, Any]:
        words = ["verify", "--checkpoint", "--genesis", str(path), "--json"]
        assert main(words) == code
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    document = verify(code=0)
    assert document["ok"]
    assert (document["epoch"], document["epochs"], document["checkpoint"]) == (3, 3, None)
    proof = source.chain.epoch_proof(2)
    assert proof is not None
    assert document["block_hash"] == "0x" + proof.header.hash.hex()
    node.checkpoint = signed(CHECKPOINT, 1, 2, 3)
    assert verify(code=0)["checkpoint"]["number"] == CHECKPOINT.number
    node.checkpoint = signed(CHECKPOINT, 1, 2)
    document = verify(code=1)
    assert (document["ok"], document["reason"]) == (False, "false_checkpoint")
