"""A chain of small blocks with real records, and an open database to put it in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from omninode.consensus.types import (
    Block,
    Certificate,
    Header,
    VoteKind,
    body_root,
    genesis_header,
)
from omninode.crypto import ZERO_HASH, keccak256, tagged_hash
from omninode.dex.events import Event, LevelChanged, OrderRecord, OrderUpdated, Trade
from omninode.dex.outcomes import OK, BlockOutcome, HashParts, ItemResult, TransactionResult
from omninode.encoding import amount_to_bytes, encode
from omninode.storage.chain import ChainStore
from omninode.storage.database import Database
from omninode.storage.history import History
from omninode.storage.journal import Journal
from omninode.storage.pruning import Pruner
from omninode.storage.records import CommittedBlock

GENESIS = genesis_header(b"\1" * 32, time_ms=1_000, app_hash=b"\2" * 32, valset_hash=ZERO_HASH)
ALICE, BOB = b"\xa1" * 20, b"\xb0" * 20
MARKET = "BTC-USDC"


def transaction(account: bytes, nonce: int) -> bytes:
    """Return bytes with the layout of a signed transaction."""
    return encode((1, 0, account, nonce, ("noop",), bytes(65)))


def order_id(number: int) -> bytes:
    return tagged_hash("test/order", number.to_bytes(8, "big"))


def trade(sequence: int, *, maker: bytes = ALICE, taker: bytes = BOB) -> Trade:
    fee = amount_to_bytes(3)
    ids = order_id(2 * sequence), order_id(2 * sequence + 1)
    return Trade(MARKET, sequence, 100 + sequence, 7, True, *ids, taker, 0, maker, 0, fee, fee)


def filled(number: int, account: bytes = ALICE, state: str = "filled") -> OrderUpdated:
    zero = amount_to_bytes(0)
    record = OrderRecord(
        order_id=order_id(number),
        account=account,
        subaccount=0,
        market=MARKET,
        is_buy=True,
        order_type="limit",
        tif="gtc",
        post_only=False,
        client_id="",
        price=100,
        size=7,
        filled=7,
        notional=zero,
        fee_numerator=zero,
        fees=zero,
        sequence=number,
        height=1,
        time_ms=2,
    )
    return OrderUpdated(record, state)


@dataclass
class ChainMaker:
    """Makes blocks that follow one another."""

    tip: Header = GENESIS
    made: list[CommittedBlock] = field(default_factory=list)

    def block(
        self,
        *raws: bytes,
        events: tuple[Event, ...] = (),
        writes: dict[bytes, bytes | None] | None = None,
        codes: tuple[str, ...] = (),
        certified: bool = True,
        time_ms: int | None = None,
    ) -> CommittedBlock:
        ids = tuple(keccak256(raw) for raw in raws)
        height = self.tip.height + 1
        values = {name: getattr(self.tip, name) for name in self.tip.__struct_fields__}
        values |= {
            "height": height,
            "view": height,
            "parent_hash": self.tip.hash,
            "parent_view": self.tip.view,
            "time_ms": self.tip.time_ms + 1_000 if time_ms is None else time_ms,
            "body_root": body_root(ids),
        }
        header = Header(**values)
        voted = header.hash if certified else b"\xcc" * 32
        certificate = Certificate(VoteKind.FINALIZE, 0, height, voted, (0, 1, 2), (b"\5" * 65,) * 3)
        codes = codes or (OK,) * len(raws)
        outcome = BlockOutcome(
            height,
            keccak256(b"app" + header.hash),
            HashParts(keccak256(b"results"), (("accounts", keccak256(b"delta")),)),
            tuple(
                TransactionResult(name, code, "", (ItemResult("open", order_id=name),))
                for name, code in zip(ids, codes, strict=True)
            ),
            (*events, LevelChanged(MARKET, True, 100, 0)),
            writes or {},
        )
        committed = CommittedBlock(Block(header, ids), raws, certificate, outcome)
        self.tip = header
        self.made.append(committed)
        return committed


class Store:
    """Everything on one open database."""

    def __init__(self, path: Path) -> None:
        self.database = Database.open(path)
        self.journal = Journal(self.database)
        self.pending = self.journal.load()
        self.chain = ChainStore.open(self.database, self.journal, genesis_hash=GENESIS.genesis_hash)
        self.history = History(self.database, self.chain)
        self.pruner = Pruner(self.database, self.chain)


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Open the store; opening it again closes it first, as a restart does."""
    opened: list[Store] = []

    def opening() -> Store:
        if opened:
            opened[-1].database.close()
        opened.append(Store(tmp_path / "db"))
        return opened[-1]

    yield opening
    if opened:
        opened[-1].database.close()


@pytest.fixture
def maker() -> ChainMaker:
    return ChainMaker()


@pytest.fixture
def world() -> SimpleNamespace:
    """The constants and builders above, for tests in other files."""
    return SimpleNamespace(
        genesis=GENESIS,
        alice=ALICE,
        bob=BOB,
        market=MARKET,
        transaction=transaction,
        trade=trade,
        filled=filled,
        order_id=order_id,
    )
