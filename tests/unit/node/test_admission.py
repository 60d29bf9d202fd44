"""The door, with the real exchange, database and journal behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    PlaceOrder,
    SignCheckpoint,
    Transfer,
)
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisSettlement,
    GenesisValidator,
)
from omninode.dex.outcomes import BlockInput, BlockOutcome
from omninode.dex.transaction import (
    Transaction,
    check_stateless,
    decode_transaction,
    sign_agent,
    sign_validator,
    sign_wallet,
)
from omninode.encoding import encode
from omninode.errors import Malformed, PeerFault, UserError
from omninode.node.admission import BROADCAST_GAP_MS, Admission
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.admission_state import ExchangeAdmission
from omninode.node.limits import (
    FRAME_TRANSACTION_BYTES_MAX,
    FRAME_TRANSACTIONS_MAX,
    SUBMIT_TRANSACTIONS_MAX,
)
from omninode.node.mempool import BlockLimits, Mempool, PoolLimits
from omninode.node.transaction_frames import decode_frame, encode_frames
from omninode.storage.database import Database
from omninode.storage.journal import Journal

NOW = 1_700_000_000_000
WINDOW_MS = 30_000
ALICE = SigningKey(b"\x01" * 32)
BOB = SigningKey(b"\x02" * 32)
AGENT = SigningKey(b"\x03" * 32)
POOR = SigningKey(b"\x04" * 32)
VALIDATOR = SigningKey(b"\x05" * 32)
ORDER = PlaceOrder(0, "BTC-USDC", "buy", "limit", "0.1", "78000", "gtc", False, 0, "")

GENESIS = Genesis(
    chain_id="test",
    settlement_chain_id=31337,
    genesis_time_ms=NOW,
    fees=FeeShares(
        treasury=checksum_address(b"\xe0" * 20), development=checksum_address(b"\xe1" * 20)
    ),
    validators=(
        GenesisValidator(
            moniker="node0",
            address=checksum_address(VALIDATOR.address),
            public_key="0x" + VALIDATOR.public_key.hex(),
            peer_id="peer0",
            power=1,
        ),
    ),
    settlement=GenesisSettlement(contract=checksum_address(b"\xcc" * 20), start_block=1),
    assets=(GenesisAsset(name="USDC", decimals=6), GenesisAsset(name="BTC", decimals=8)),
    markets=(
        GenesisMarket(name="BTC-USDC", base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
    ),
    balances=tuple(
        GenesisBalance(address=checksum_address(key.address), asset="USDC", amount="1000000")
        for key in (ALICE, BOB)
    ),
)
DOMAIN = Domain(GENESIS.settlement_chain_id, GENESIS.hash)


class Node:
    """Admission on an open database, with blocks made by hand."""

    def __init__(self, database: Database, *, exchange: Exchange | None = None) -> None:
        self.now_ms = NOW
        self.exchange = exchange or Exchange.genesis(GENESIS)
        self.database = database
        self.journal = Journal(database)
        self.pending = self.journal.load()
        self.frames: list[bytes] = []
        self.final: set[bytes] = set()
        self.admission = Admission(
            Mempool(PoolLimits(100, 100_000, 50), nonce_window_ms=WINDOW_MS),
            AdmissionPorts(
                state=ExchangeAdmission(self.exchange),
                journal=self.journal,
                is_final=self.final.__contains__,
                broadcast=self.frames.append,
                now_ms=lambda: self.now_ms,
            ),
            rules=GENESIS,
            domain=DOMAIN,
            limits=BlockLimits(bytes_max=50_000, count_max=50, per_signer_max=20),
            nonce_window_ms=WINDOW_MS,
        )

    async def block(self, *transactions: Transaction) -> BlockOutcome:
        """Execute a block as consensus would, and store it."""
        outcome = self.exchange.apply(
            BlockInput(self.exchange.height + 1, self.now_ms, bytes(32), transactions)
        )
        self.admission.executed(transactions, outcome.results, chain_time_ms=self.now_ms)
        await self.database.write(self.journal.removals(outcome.results), sync=True)
        return outcome

    def on_disk(self) -> set[bytes]:
        return {transaction_hash for transaction_hash, _ in Journal(self.database).load()}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database.open(tmp_path / "db") as opened:
        yield opened


@pytest.fixture
async def node(database: Database, nursery: trio.Nursery) -> Node:
    opened = Node(database)
    await nursery.start(opened.admission.run)
    return opened


def signed(action: Action = ORDER, *, nonce: int = NOW, key: SigningKey = ALICE) -> Transaction:
    return sign_wallet(key, action, nonce=nonce, domain=DOMAIN)


def verified(transaction: Transaction) -> Transaction:
    """The same as another node has it after its own check."""
    arrived = decode_transaction(transaction.raw)
    arrived.set_signer(transaction.signer)
    return arrived


async def refusal(node: Node, raw: bytes) -> str:
    with pytest.raises(UserError) as caught:
        await node.admission.submit(raw)
    return caught.value.reason


# --- From users ----------------------------------------------------------------------------------


async def test_an_acknowledged_transaction_is_durable_pending_and_on_its_way(node: Node) -> None:
    sent = signed()
    assert await node.admission.submit(sent.raw) == sent.hash
    assert node.on_disk() == {sent.hash}
    assert node.admission.select(set()) == (sent.hash,)
    held = node.admission.body(sent.hash)
    assert held is not None
    assert held.signer == ALICE.address
    await trio.testing.wait_all_tasks_blocked()
    assert [decode_frame(frame) for frame in node.frames] == [(sent.raw,)]


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (b"", "malformed"),
        (b"\x96", "malformed"),
        (bytes(100_000), "malformed"),
        (signed().raw + b"\x00", "malformed"),
        (signed().raw[:-1] + bytes((signed().raw[-1] ^ 1,)), "bad_signature"),
        (signed(replace(ORDER, market="DOGE-USDC")).raw, "unknown_market"),
        (signed(replace(ORDER, price="78000.001")).raw, "off_tick"),
        (signed(replace(ORDER, size="0.123456789")).raw, "off_lot"),
        (signed(Transfer(0, BOB.address, 0, "DOGE", "1")).raw, "unknown_asset"),
        (signed(nonce=NOW - WINDOW_MS - 1).raw, "nonce_out_of_window"),
        (signed(nonce=NOW + WINDOW_MS + 1).raw, "nonce_out_of_window"),
        (signed(key=POOR).raw, "insufficient_balance"),
        (
            sign_agent(AGENT, ORDER, account=ALICE.address, nonce=NOW, domain=DOMAIN).raw,
            "not_authorised",
        ),
        (sign_wallet(ALICE, ORDER, nonce=NOW, domain=Domain(1, GENESIS.hash)).raw, "bad_signature"),
    ],
)
async def test_a_refusal_names_its_reason_and_leaves_nothing(
    node: Node, transaction: bytes, reason: str
) -> None:
    assert await refusal(node, transaction) == reason
    assert node.on_disk() == set()
    assert node.admission.select(set()) == ()
    assert node.admission.counts == {reason: 1}


def word(
    nonce: int = NOW, key: SigningKey = VALIDATOR, domain: Domain = DOMAIN, number: int = 1
) -> Transaction:
    """What a validator says: a checkpoint's signature, right or wrong."""
    action = SignCheckpoint(number, bytes(65))
    return sign_validator(key, action, nonce=nonce, domain=domain)


async def test_a_validator_needs_no_funds_to_say_something(node: Node) -> None:
    sent = word()
    assert await node.admission.submit(sent.raw) == sent.hash
    assert node.on_disk() == {sent.hash}
    assert node.admission.select(set()) == (sent.hash,)
    assert node.admission.oldest_ms(set()) == NOW
    outcome = await node.block(verified(sent))
    assert outcome.results[0].reason == "checkpoint_closed", "it was executed"
    assert await refusal(node, signed(key=VALIDATOR).raw) == "insufficient_balance"


@pytest.mark.parametrize(
    ("transaction", "reason"),
    [
        (word(key=ALICE), "not_authorised"),
        (word(domain=Domain(31337, bytes(32))), "bad_signature"),
        (word(nonce=NOW - WINDOW_MS - 1), "nonce_out_of_window"),
    ],
)
async def test_only_validators_speak_for_validators(
    node: Node, transaction: Transaction, reason: str
) -> None:
    assert await refusal(node, transaction.raw) == reason
    assert node.on_disk() == set()
    if reason == "bad_signature":
        with pytest.raises(PeerFault):
            await node.admission.receive("peer", [transaction.raw])
    else:
        await node.admission.receive("peer", [transaction.raw])
    assert node.admission.select(set()) == ()


def test_a_network_without_settlement_refuses_it_at_the_door() -> None:
    genesis = replace(GENESIS, settlement=None)
    with pytest.raises(UserError) as caught:
        check_stateless(word(), genesis)
    assert caught.value.reason == "no_settlement"


async def test_the_window_is_inclusive_and_follows_the_later_of_clock_and_chain(node: Node) -> None:
    await node.admission.submit(signed(nonce=NOW - WINDOW_MS).raw)
    await node.admission.submit(signed(nonce=NOW + WINDOW_MS).raw)
    node.now_ms = NOW + 10
    await node.block()
    node.now_ms = NOW
    assert await refusal(node, signed(nonce=NOW + 9 - WINDOW_MS).raw) == "nonce_out_of_window"
    await node.admission.submit(signed(nonce=NOW + 10 + WINDOW_MS).raw)


async def test_sending_again_is_no_error_at_any_stage(node: Node) -> None:
    sent = signed()
    assert await node.admission.submit(sent.raw) == sent.hash
    assert await node.admission.submit(sent.raw) == sent.hash
    await node.block(verified(sent))
    assert await node.admission.submit(sent.raw) == sent.hash
    node.admission._recently_final.clear()
    assert await refusal(node, sent.raw) == "nonce_used"
    node.final.add(sent.hash)
    assert await node.admission.submit(sent.raw) == sent.hash
    node.now_ms += 2 * WINDOW_MS
    assert await node.admission.submit(sent.raw) == sent.hash


async def test_a_nonce_counts_once_pending_or_used(node: Node) -> None:
    first = signed()
    rival = signed(CancelAll(0, ""))
    await node.admission.submit(first.raw)
    assert await refusal(node, rival.raw) == "nonce_used"
    await node.block(verified(first))
    assert await refusal(node, rival.raw) == "nonce_used"


async def test_the_first_of_two_bodies_under_one_nonce_to_be_final_removes_the_other(
    node: Node,
) -> None:
    mine, rival = signed(), signed(CancelAll(0, ""))
    await node.admission.submit(mine.raw)
    await node.block(verified(rival))
    assert node.admission.select(set()) == ()
    await trio.testing.wait_all_tasks_blocked(0.01)
    await _until(lambda: node.on_disk() == set())


async def test_an_approved_session_key_is_let_in(node: Node) -> None:
    approve = ApproveAgent(AGENT.address, "bot", ("trade",), NOW + 100_000)
    order = sign_agent(AGENT, ORDER, account=ALICE.address, nonce=NOW, domain=DOMAIN)
    assert await refusal(node, order.raw) == "not_authorised"
    await node.block(signed(approve, nonce=NOW - 1))
    assert await node.admission.submit(order.raw) == order.hash


async def test_many_at_once_are_judged_one_by_one(node: Node) -> None:
    good = [signed(nonce=NOW + index) for index in range(40)]
    raws = [item.raw for item in good]
    raws[7:7] = [b"rubbish", raws[0], signed(key=POOR).raw]
    outcomes = await node.admission.submit_many(raws)
    words = [o if isinstance(o, bytes) else o.reason for o in outcomes]
    hashes: list[Any] = [item.hash for item in good]
    hashes[7:7] = ["malformed", hashes[0], "insufficient_balance"]
    assert words == hashes
    assert node.on_disk() == {item.hash for item in good}
    with pytest.raises(UserError, match="at most"):
        await node.admission.submit_many([b""] * (SUBMIT_TRANSACTIONS_MAX + 1))


async def test_a_full_pool_refuses_the_newest_and_keeps_its_promises(node: Node) -> None:
    raws = [signed(nonce=NOW + index).raw for index in range(51)]
    outcomes = await node.admission.submit_many(raws)
    assert [getattr(o, "reason", "ok") for o in outcomes] == ["ok"] * 50 + ["mempool_full"]
    assert len(node.on_disk()) == 50
    await node.admission.submit(signed(key=BOB).raw)


async def test_concurrent_senders_of_one_transaction_all_wait_for_the_disk(node: Node) -> None:
    sent = signed()
    durable: list[bool] = []

    async def send() -> None:
        await node.admission.submit(sent.raw)
        durable.append(node.on_disk() == {sent.hash})

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(send)
    assert durable == [True] * 5


async def test_what_a_peer_brought_becomes_durable_when_its_sender_asks(node: Node) -> None:
    sent = signed()
    await node.admission.receive("peer", [sent.raw])
    assert node.on_disk() == set()
    assert await node.admission.submit(sent.raw) == sent.hash
    assert node.on_disk() == {sent.hash}


async def test_a_sender_that_goes_away_does_not_undo_what_was_begun(node: Node) -> None:
    sent = signed()
    with trio.CancelScope() as scope:
        scope.cancel()
        await node.admission.submit(sent.raw)
    assert node.admission.body(sent.hash) is not None
    await _until(lambda: node.on_disk() == {sent.hash})


async def test_what_is_final_before_it_is_written_is_not_left_in_the_journal(node: Node) -> None:
    sent = signed()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.admission.submit, sent.raw)
        await node.admission.changed()
        await node.block(verified(sent))
    await node.admission.submit(signed(nonce=NOW + 1).raw)
    assert sent.hash not in node.on_disk()


async def test_one_frame_for_what_a_few_milliseconds_brought(
    node: Node, autojump_clock: trio.testing.MockClock
) -> None:
    del autojump_clock
    first, *others = (signed(nonce=NOW + index) for index in range(5))
    node.admission._send([first])
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.frames) == 1
    for other in others:
        node.admission._send([other])
    await trio.testing.wait_all_tasks_blocked()
    assert len(node.frames) == 1
    await trio.sleep(2 * BROADCAST_GAP_MS / 1000)
    assert [len(decode_frame(frame)) for frame in node.frames] == [1, 4]


# --- From peers ----------------------------------------------------------------------------------


async def test_a_peers_transactions_are_taken_but_not_acknowledged(node: Node) -> None:
    items = [signed(nonce=NOW + index) for index in range(40)]
    for frame in encode_frames([item.raw for item in items]):
        await node.admission.receive_frame("peer", frame)
    await node.admission.receive("peer", [items[0].raw])
    assert node.admission.missing([item.hash for item in items]) == []
    assert node.on_disk() == set()
    assert node.frames == []
    assert node.admission.counts == {"from_peers": 40}


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x91",
        b"\x91\xc0",
        b"\x91\x91\xc0",
        b"\x91\xdd\xff\xff\xff\xff",
        encode([[b""]]) + b"\x00",
        encode([[b""], 1]),
        bytes(FRAME_TRANSACTION_BYTES_MAX + 1),
        encode([[b""] * (FRAME_TRANSACTIONS_MAX + 1)]),
        encode([[b""]]),
        encode([[bytes(100)]]),
        encode([[bytes(200_000)]]),
        encode([[signed().raw, signed().raw[:-2] + b"\x00\x1b"]]),
        encode([[signed(nonce=NOW + 1).raw[:-1] + b"\x00"]]),
        encode(
            [[signed(PlaceOrder(0, "DOGE", "buy", "market", "1", "", "ioc", False, 1, "")).raw]]
        ),
    ],
)
async def test_rubbish_is_the_peers_fault_and_nothing_is_taken(node: Node, frame: bytes) -> None:
    with pytest.raises(PeerFault) as caught:
        await node.admission.receive_frame("peer", frame)
    assert caught.value.penalty > 0
    assert node.admission.select(set()) == ()


async def test_what_honest_nodes_may_see_differently_is_dropped_without_blame(node: Node) -> None:
    await node.block(signed(nonce=NOW - 5))
    good = signed()
    await node.admission.receive(
        "peer",
        [
            signed(key=POOR).raw,
            signed(CancelAll(0, ""), nonce=NOW - 5).raw,
            signed(nonce=NOW - WINDOW_MS - 1).raw,
            sign_agent(AGENT, ORDER, account=ALICE.address, nonce=NOW, domain=DOMAIN).raw,
            good.raw,
            signed(CancelAll(0, "")).raw,
        ],
    )
    assert node.admission.select(set()) == (good.hash,)
    assert node.admission.counts == {
        "insufficient_balance": 1,
        "nonce_used": 2,
        "nonce_out_of_window": 1,
        "not_authorised": 1,
        "from_peers": 1,
    }


async def test_a_peer_that_lags_may_send_what_is_final(node: Node) -> None:
    sent = signed()
    await node.block(verified(sent))
    await node.admission.receive("peer", [sent.raw])
    assert node.admission.counts == {}
    assert node.admission.select(set()) == ()


async def test_bodies_of_a_block_are_judged_by_bytes_and_signature_only(node: Node) -> None:
    held = signed()
    await node.admission.submit(held.raw)
    others = [
        signed(key=POOR, nonce=1),
        sign_agent(AGENT, ORDER, account=POOR.address, nonce=NOW, domain=DOMAIN),
        signed(PlaceOrder(0, "DOGE", "buy", "market", "1", "", "ioc", False, 1, "")),
    ]
    bodies = await node.admission.check([held.raw, *(other.raw for other in others)])
    assert bodies == [held, *others]
    assert bodies[0] is node.admission.body(held.hash)
    assert [body.signer for body in bodies[1:]] == [POOR.address, AGENT.address, ALICE.address]
    assert node.admission.missing([other.hash for other in others]) == [o.hash for o in others]
    for bad in (b"", held.raw + b"\x00", held.raw[:-1] + b"\x00", bytes(100_000)):
        with pytest.raises(Malformed):
            await node.admission.check([held.raw, bad])


async def test_waiting_for_bodies_ends_with_the_last_arrival(node: Node) -> None:
    items = [signed(nonce=NOW + index) for index in range(3)]
    arrived: list[str] = []

    async def wait() -> None:
        await node.admission.wait_for([item.hash for item in items])
        arrived.append("all")

    async def change() -> None:
        await node.admission.changed()
        arrived.append("one")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        nursery.start_soon(change)
        await trio.testing.wait_all_tasks_blocked()
        await node.admission.receive("peer", [items[2].raw])
        await trio.testing.wait_all_tasks_blocked()
        assert arrived == ["one"]
        await node.admission.submit(items[0].raw)
        await node.admission.receive("peer", [items[1].raw])
    assert arrived == ["one", "all"]


# --- Life ----------------------------------------------------------------------------------------


async def test_a_restart_keeps_every_promise_that_can_still_be_kept(
    node: Node, database: Database, nursery: trio.Nursery
) -> None:
    kept, done, void = (signed(nonce=NOW + index) for index in range(3))
    await node.admission.submit_many([kept.raw, done.raw, void.raw])
    outcome = await node.block(verified(done))
    assert outcome.results[0].code == "ok"
    rival = signed(CancelAll(0, ""), nonce=void.nonce)
    node.exchange.apply(BlockInput(2, NOW + 1, bytes(32), [rival]))

    restarted = Node(database, exchange=node.exchange)
    assert {transaction_hash for transaction_hash, _ in restarted.pending} == {kept.hash, void.hash}
    await nursery.start(restarted.admission.run)
    assert {t.hash for t in await restarted.admission.restore(restarted.pending)} == {
        kept.hash,
        void.hash,
    }
    assert restarted.admission.select(set()) == (kept.hash,)
    await _until(lambda: restarted.on_disk() == {kept.hash})
    assert [decode_frame(frame) for frame in restarted.frames] == [(kept.raw,)]


async def test_expired_transactions_leave_pool_and_journal_after_their_window(node: Node) -> None:
    sent = signed()
    await node.admission.submit(sent.raw)
    node.now_ms = NOW + WINDOW_MS
    await node.block()
    assert node.admission.select(set()) == (sent.hash,)
    node.now_ms = NOW + WINDOW_MS + 1_001
    await node.block()
    assert node.admission.select(set()) == ()
    await _until(lambda: node.on_disk() == set())


async def test_a_batch_of_the_largest_size_passes_the_door(node: Node) -> None:
    sent = signed(Batch((), (), (ORDER,) * 100))
    assert await node.admission.submit(sent.raw) == sent.hash


async def _until(condition: Any) -> None:
    with trio.fail_after(5):
        while not condition():
            await trio.sleep(0.005)
