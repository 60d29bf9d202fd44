from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import plyvel
import pytest
import trio

from omninode.consensus.types import Block, Certificate, Header, VoteKind, body_root, genesis_header
from omninode.crypto import SigningKey
from omninode.dex.action_json import action_from_json
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis
from omninode.dex.outcomes import BlockInput
from omninode.dex.transaction import Transaction, recover_signer, sign_wallet
from omninode.encoding import decode, encode
from omninode.errors import UserError
from omninode.node.home_setup import HomeIdentity
from omninode.node.local_genesis import local_genesis
from omninode.node.re_execution import Mismatch, ReplayResult, replay_chain
from omninode.storage import keys
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.journal import Journal
from omninode.storage.records import CommittedBlock, StoredParts

GENESIS_MS = 1_700_000_000_000
OWNER = SigningKey(b"\7" * 32)
VOTER = SigningKey(b"\10" * 32)
BLOCKS = 6


class Chain:
    """A chain of real blocks with real transactions, as a node stores them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        identity = HomeIdentity(VOTER.address, VOTER.public_key, "12D3KooWtest")
        self.genesis: Genesis = local_genesis(
            identity, moniker="n", chain_id="local", owner=OWNER.address, time_ms=GENESIS_MS
        )
        self.exchange = Exchange.genesis(self.genesis)
        self.domain = Domain(
            chain_id=self.genesis.settlement_chain_id, genesis_hash=self.genesis.hash
        )
        self.tip = genesis_header(
            self.genesis.hash,
            time_ms=GENESIS_MS,
            app_hash=self.exchange.app_hash,
            valset_hash=self.genesis.validator_set.hash,
        )
        self.executed = (0, self.exchange.app_hash)

    async def write(self, count: int) -> None:
        with Database.open(self.path) as database:
            chain = ChainStore.open(database, Journal(database), genesis_hash=self.genesis.hash)
            await chain.begin(self.tip, self.exchange.app_hash, self.exchange.records())
            for _ in range(count):
                await chain.commit(self._block())

    def _block(self) -> CommittedBlock:
        height = self.tip.height + 1
        transactions = [
            self._order(height, "buy", "0.99"),
            self._order(height, "sell", "1.01"),
        ]
        ids = tuple(transaction.hash for transaction in transactions)
        values = {name: getattr(self.tip, name) for name in self.tip.__struct_fields__}
        executed_height, app_hash = self.executed
        header = Header(
            **values
            | {
                "height": height,
                "view": height,
                "parent_hash": self.tip.hash,
                "parent_view": self.tip.view,
                "time_ms": self.tip.time_ms + 50,
                "body_root": body_root(ids),
                "executed_height": executed_height,
                "app_hash": app_hash,
            }
        )
        outcome = self.exchange.apply(
            BlockInput(height, header.time_ms, header.parent_hash, transactions)
        )
        assert [result.code for result in outcome.results] == ["ok", "ok"]
        self.tip, self.executed = header, (height, outcome.app_hash)
        certificate = Certificate(VoteKind.FINALIZE, 0, height, header.hash, (0,), (b"\5" * 65,))
        raws = tuple(transaction.raw for transaction in transactions)
        return CommittedBlock(Block(header, ids), raws, certificate, outcome)

    def _order(self, height: int, side: str, price: str) -> Transaction:
        request = action_from_json(
            {
                "type": "place_order",
                "account": "0x" + OWNER.address.hex(),
                "nonce": GENESIS_MS + 10 * height + (side == "buy"),
                "market": "XOM-USDC",
                "side": side,
                "order_type": "limit",
                "size": str(height),
                "price": price,
                "tif": "gtc",
            }
        )
        transaction = sign_wallet(OWNER, request.action, nonce=request.nonce, domain=self.domain)
        transaction.set_signer(recover_signer(transaction, self.domain))
        return transaction

    def replay(self, **options: Any) -> ReplayResult:
        with Database.open(self.path) as database:
            store = ChainStore.open(database, Journal(database), genesis_hash=self.genesis.hash)
            return replay_chain(store, self.genesis, **options)

    def edit(self, key: bytes, value: bytes | None) -> None:
        level = plyvel.DB(str(self.path))
        if value is None:
            level.delete(key)
        else:
            level.put(key, value)
        level.close()

    def read(self, key: bytes) -> bytes:
        level = plyvel.DB(str(self.path))
        value: bytes = level.get(key)
        level.close()
        return value

    def state_keys(self) -> Iterator[bytes]:
        level = plyvel.DB(str(self.path))
        yield from [key for key, _ in level.iterator(prefix=keys.STATE)]
        level.close()


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    made = Chain(tmp_path / "db")
    trio.run(made.write, BLOCKS)
    return made


def test_a_right_chain_is_right(chain: Chain) -> None:
    seen: list[int] = []
    result = chain.replay(progress=seen.append)
    assert result.document() == {
        "from": 1,
        "to": BLOCKS,
        "blocks": BLOCKS,
        "transactions": 2 * BLOCKS,
        "mismatch": None,
    }
    assert seen == list(range(1, BLOCKS + 1))


def test_a_range_is_executed_from_genesis_and_compared_from_its_start(chain: Chain) -> None:
    result = chain.replay(first=3, last=4)
    assert (result.first, result.last, result.blocks, result.mismatch) == (3, 4, 4, None)


@pytest.mark.parametrize(("first", "last"), [(1, BLOCKS + 1), (5, 4), (0, 3), (BLOCKS + 1, None)])
def test_heights_that_are_not_there(chain: Chain, first: int, last: int | None) -> None:
    with pytest.raises(UserError) as failure:
        chain.replay(first=first, last=last)
    assert failure.value.reason == "unknown_height"


def test_a_chain_without_blocks_is_right_too(tmp_path: Path) -> None:
    made = Chain(tmp_path / "db")
    trio.run(made.write, 0)
    assert made.replay().document()["mismatch"] is None


def test_a_pruned_chain_is_refused(chain: Chain) -> None:
    chain.edit(keys.META_FIRST, encode(3))
    with pytest.raises(UserError) as failure:
        chain.replay()
    assert failure.value.reason == "pruned"


def test_a_wrong_app_hash_names_height_and_module(chain: Chain) -> None:
    key = keys.PARTS + keys.height_bytes(4)
    parts = decode(chain.read(key), StoredParts, size_max=10_000)
    modules = tuple(
        (name, b"\0" * 32 if name == "orders" else delta) for name, delta in parts.parts.modules
    )
    wrong = StoredParts(b"\0" * 32, msgspec.structs.replace(parts.parts, modules=modules))
    chain.edit(key, encode(wrong))
    assert chain.replay().mismatch == Mismatch(4, "orders")
    assert chain.replay(last=3).mismatch is None
    assert chain.replay(first=5).mismatch is None


def test_a_flipped_bit_of_the_state_is_found(chain: Chain) -> None:
    for key in list(chain.state_keys()):
        value = chain.read(key)
        chain.edit(key, value[:-1] + bytes((value[-1] ^ 1,)))
        mismatch = chain.replay().mismatch
        assert mismatch is not None
        assert mismatch.height == BLOCKS
        expected = {b"a": "accounts", b"o": "orders", b"m": "markets", b"n": "nonces", b"h": "head"}
        assert mismatch.module == expected[key[1:2]]
        chain.edit(key, value)
    assert chain.replay().mismatch is None


def test_a_missing_and_an_invented_state_record_are_found(chain: Chain) -> None:
    key = next(key for key in chain.state_keys() if key[1:2] == b"o")
    value = chain.read(key)
    chain.edit(key, None)
    assert chain.replay().mismatch == Mismatch(BLOCKS, "orders")
    chain.edit(key, value)
    chain.edit(keys.STATE + b"zzz", b"\xc0")
    assert chain.replay().mismatch == Mismatch(BLOCKS, "head")


def test_an_exchanged_transaction_is_found(chain: Chain) -> None:
    key = keys.BODIES + keys.height_bytes(2)
    chain.edit(key, chain.read(keys.BODIES + keys.height_bytes(3)))
    assert chain.replay().mismatch == Mismatch(2, "bodies")


def test_a_header_that_names_another_state_is_found(chain: Chain) -> None:
    key = keys.BLOCK + keys.height_bytes(BLOCKS)
    block = decode(chain.read(key), Block, size_max=100_000)
    header = msgspec.structs.replace(block.header, app_hash=b"\1" * 32)
    chain.edit(key, encode(Block(header, block.transaction_ids)))
    assert chain.replay().mismatch == Mismatch(BLOCKS - 1, "headers")
