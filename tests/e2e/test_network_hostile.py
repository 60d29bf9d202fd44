"""Rubbish from everywhere while a network of real processes trades: refused, and nothing stops."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import structlog
import trio

from omninode.consensus import messages as msg
from omninode.consensus.driver.questions import (
    BLOCK_PROTOCOL,
    BLOCKS_PROTOCOL,
    TRANSACTIONS_PROTOCOL,
)
from omninode.consensus.types import Certificate, Vote, VoteKind
from omninode.encoding import encode
from omninode.errors import PeerFault, UserError
from omninode.node.divergence import PARTS_PROTOCOL
from omninode.node.net.identity import NodeIdentity
from omninode.node.net.requests import RequestFailed
from omninode.node.net.service import Network
from omninode.node.net.settings import NetworkSettings, Plane
from omninode.node.runtime import TRANSACTIONS_TOPIC
from real_network import RealNetwork, RealNode, until
from real_trading import Load, Trader, hex_of, limit_order

pytestmark = pytest.mark.slow

RATE = 40
RESIDENT_BYTES_MAX = 300 << 20
SILENT_LOG = structlog.wrap_logger(None, wrapper_class=structlog.make_filtering_bound_logger(50))


@pytest.fixture
def load(network: RealNetwork, seed: int) -> Iterator[Load]:
    """Orders while the test runs; at its end all must be well, and nothing lost."""
    with Load(network, network.validators, rate=RATE, seed=seed) as running:
        running.wait_acknowledged(10)
        yield running
        running.wait_acknowledged(20)
    running.assert_all_final(network.running)
    network.assert_one_chain()
    for node in network.running:
        assert node.resident_bytes() < RESIDENT_BYTES_MAX
        assert "Traceback" not in node.log(), node.log_tail()


# --- JSON-RPC ------------------------------------------------------------------------------------


def call_text(method: str, params: str) -> bytes:
    return f'{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}'.encode()


BODIES: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 200, "parse_error"),
    "no JSON": (b"hello", 200, "parse_error"),
    "half a call": (b'{"jsonrpc":"2.0","id":1,"meth', 200, "parse_error"),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":1,"method":"\xff\xfe"}', 200, "parse_error"),
    "deep lists": (b"[" * 100_000, 200, "invalid_request"),
    "deep parameters": (call_text("omni_status", "[" * 80 + "]" * 80), 200, "invalid_request"),
    "no numbers": (call_text("omni_getBlock", '{"height":NaN}'), 200, "parse_error"),
    "a huge exponent": (call_text("omni_getBlock", '{"height":1e400}'), 200, "invalid_params"),
    "10,000 digits": (
        call_text("omni_getBlock", '{"height":' + "9" * 10_000 + "}"),
        200,
        "invalid_params",
    ),
    "out of range": (call_text("omni_getBlock", '{"height":-1}'), 200, "invalid_params"),
    "no call": (b"17", 200, "invalid_request"),
    "no calls": (b"[]", 200, "invalid_request"),
    "too many calls": (
        b"[" + b",".join([call_text("omni_status", "{}")] * 101) + b"]",
        200,
        "invalid_request",
    ),
    "another version": (b'{"jsonrpc":"1.0","id":1,"method":"omni_status"}', 200, "invalid_request"),
    "no such method": (call_text("omni_giveMeMoney", "{}"), 200, "method_not_found"),
    "no hex": (call_text("omni_sendTransaction", '{"tx":"0xzz"}'), 200, "invalid_params"),
    "no transaction": (call_text("omni_sendTransaction", '{"tx":"0x93"}'), 200, "malformed"),
    "too long": (b" " * (2 << 20), 413, "request_too_large"),
}


def test_malformed_calls_get_typed_refusals(network: RealNetwork, load: Load) -> None:
    node = network.validators[1]
    seen = {}
    for name, (body, _, _) in BODIES.items():
        status, answer = node.post(body)
        error: dict[str, Any] = json.loads(answer)["error"]
        assert isinstance(error["code"], int)
        seen[name] = (status, error["data"]["reason"])
    assert seen == {name: (status, reason) for name, (_, status, reason) in BODIES.items()}


def bad_orders() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is wrong with an order: the expected reason, and the changed fields."""
    yield "off_tick", {"price": "1.00005"}
    yield "off_lot", {"size": "1.5"}
    yield "unknown_market", {"market": "XOM-EUR"}
    for number in ("0", "-1", "NaN", "1e400", "1e2", "01", "1.0", "+1", "", "9" * 10_000):
        yield "malformed", {"size": number}
    for number in ("0", "-1", "NaN", "Infinity", "9" * 10_000):
        yield "malformed", {"price": number}
    yield "malformed", {"side": "both"}
    yield "malformed", {"subaccount": 1_000}
    yield "insufficient_balance", {"size": "90000000", "price": "2"}


def test_bad_transactions_get_typed_refusals_and_change_nothing(
    network: RealNetwork, load: Load
) -> None:
    node = network.validators[2]
    trader, other = (Trader(network, key) for key in network.quiet_accounts)
    before = [trader.free(node, asset) for asset in ("USDC", "XOM")]

    def reason(raw: str) -> str:
        try:
            result = node.call("omni_sendTransactionSync", tx=raw)
        except UserError as error:
            return error.reason
        return f"{result['code']}: {result['reason']}"

    for expected, changes in bad_orders():
        action = limit_order(**{"side": "buy", "price": "1", "size": "10"} | changes)
        assert reason(hex_of(trader.sign(action))).removeprefix("rejected: ") == expected, changes
    good = trader.sign(limit_order("buy", "0.5", "1", tif="ioc"))
    raw = hex_of(good)
    order_of_curve = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141
    high_s = (order_of_curve - int(raw[-66:-2], 16)).to_bytes(32, "big").hex()
    high_v = "1c" if raw.endswith("1b") else "1b"
    forged = hex_of(other.sign(good.action))
    forged = forged.replace(other.key.address.hex(), trader.key.address.hex())
    for spoiled in (raw[:-66] + high_s + high_v, raw[:-130] + "00" * 65, forged):
        assert reason(spoiled) == "bad_signature"
    for spoiled in (raw[:-2], raw + "00", "0x90", "0x96" + "c0" * 6):
        assert reason(spoiled) == "malformed"
    now_ms = time.time_ns() // 10**6
    for nonce in (now_ms - 3_600_000, now_ms + 3_600_000):
        assert reason(hex_of(trader.sign(good.action, nonce))) == "nonce_out_of_window"
    assert reason(raw) == "ok: "
    assert reason(raw) == "ok: ", "the same transaction again gets the same answer"
    assert reason(hex_of(trader.sign(limit_order("buy", "0.5", "2"), good.nonce))) == "nonce_used"
    assert [trader.free(node, asset) for asset in ("USDC", "XOM")] == before


# --- The peer port -------------------------------------------------------------------------------

TWO_GIGABYTES = (1 << 31).to_bytes(4, "big")


def openings(rng: random.Random) -> list[bytes]:
    """Return what a stranger may say first."""
    multistream = b"\x13/multistream/1.0.0\n"
    return [
        b"",
        rng.randbytes(4_096),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        multistream,
        multistream + b"\x07/noise\n",
        multistream + b"\x07/noise\n" + rng.randbytes(2_000),
        multistream + b"\x07/noise\n\xff\xff" + rng.randbytes(100),
        multistream + TWO_GIGABYTES * 10,
        b"\xff" * 1_000,
        TWO_GIGABYTES,
    ]


def test_rubbish_and_half_open_connections_on_the_peer_port(
    network: RealNetwork, load: Load, rng: random.Random
) -> None:
    with ExitStack() as held:
        for _ in range(3):
            for node in network.validators:
                for opening in openings(rng):
                    with suppress(OSError):
                        stranger = socket.create_connection(("127.0.0.1", node.p2p_port), 5)
                        held.enter_context(stranger)
                        stranger.sendall(opening)
        load.wait_acknowledged(60)
        network.wait_blocks(10)
    for node in network.validators:
        assert node.status()["peers"] == 3


def garbage(rng: random.Random) -> list[bytes]:
    """Return frames and requests that no honest node sends."""
    return [
        b"",
        b"\x00",
        rng.randbytes(60),
        b"\x91" * 60,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff" + b"x" * 20,
        encode((2**62, 2**62)),
        encode(["vote"]),
    ]


@asynccontextmanager
async def speaking_to(network: RealNetwork, identity: NodeIdentity, nodes: list[RealNode]) -> Any:
    """Run a peer that is let in, and may then say what it likes."""
    settings = NetworkSettings(
        listen=("/ip4/127.0.0.1/tcp/0",),
        network_tag=network.genesis.hash.hex(),
        moniker="mallory",
        persistent_peers=tuple(node.multiaddress for node in nodes),
        validator_peers=frozenset(node.identity.peer_id for node in network.validators),
    )
    speaker = Network(settings, identity, log=SILENT_LOG)

    async def answer(_peer: str, _frame: bytes) -> bytes:
        return b"\xc1"

    async def ignore(_peer: str, _frame: bytes) -> None:
        pass

    for protocol in (BLOCK_PROTOCOL, TRANSACTIONS_PROTOCOL, BLOCKS_PROTOCOL, PARTS_PROTOCOL):
        speaker.on_request(protocol, answer, max_request_bytes=1 << 22, max_response_bytes=1 << 22)
    for plane in Plane:
        speaker.on_frame(plane, ignore)
    async with trio.open_nursery() as nursery:
        await nursery.start(speaker.run)
        with trio.fail_after(20):
            while len(speaker.connected_peers()) < len(nodes):
                await trio.sleep(0.02)
        yield speaker
        nursery.cancel_scope.cancel()


async def test_a_stranger_that_asks_and_gossips_rubbish_pays_and_is_cut_off(
    network: RealNetwork, load: Load, rng: random.Random
) -> None:
    victim = network.validators[0]
    protocols = (BLOCK_PROTOCOL, TRANSACTIONS_PROTOCOL, BLOCKS_PROTOCOL, PARTS_PROTOCOL)
    for number, protocol in enumerate(protocols):
        identity = NodeIdentity.from_seed(bytes([number + 100]) * 32)
        async with speaking_to(network, identity, [victim]) as mallory:
            for request in [*garbage(rng), os.urandom(2 << 20)]:
                with suppress(RequestFailed, PeerFault):
                    await mallory.request(
                        victim.identity.peer_id, protocol, request, timeout_ms=2_000
                    )
        told = {p["peer_id"]: p for p in victim.call("omni_getPeers")["peers"]}
        assert told[identity.peer_id]["score"] < 0, protocol
    identity = NodeIdentity.from_seed(b"g" * 32)
    async with speaking_to(network, identity, [victim]) as mallory:
        for message in garbage(rng):
            mallory.publish(TRANSACTIONS_TOPIC, message)
        await trio.sleep(1)


async def test_a_validator_gone_mad_is_cut_off_and_stops_nobody(
    network: RealNetwork, load: Load, rng: random.Random
) -> None:
    mad, others = network.validators[3], network.validators[:3]
    assert mad.stop() == 0
    identity = NodeIdentity.load(mad.home.node_key)
    view = others[0].call("omni_getConsensusState")["view"]
    nowhere = b"\x77" * 32
    votes = [
        Vote(VoteKind.FINALIZE, 0, view + ahead, nowhere, validator, bytes(65))
        for ahead in (0, 1, 2**40)
        for validator in (3, 0, 999)
    ]
    certificate = Certificate(VoteKind.FINALIZE, 0, view, nowhere, (0, 1, 2), (bytes(65),) * 3)
    frames = [
        *garbage(rng),
        encode(msg.NeedMessage(0, 2**53)),
        encode(msg.MemoryAnswer(2**53, ())),
        encode(msg.PendingMessage((b"rubbish",) * 100)),
        *(encode(msg.VoteMessage(vote)) for vote in votes),
        encode(msg.CertificateMessage(certificate)),
    ]
    async with speaking_to(network, identity, others) as mallory:
        for node in others:
            for plane in Plane:
                for frame in frames:
                    mallory.send(node.identity.peer_id, plane, frame)
        await trio.to_thread.run_sync(lambda: until(lambda: is_cut_off(mad, others), 15))
    await trio.to_thread.run_sync(lambda: network.wait_blocks(10, others))
    assert {node.status()["halted"] for node in others} == {None}


def is_cut_off(mad: RealNode, others: list[RealNode]) -> bool:
    told = [
        peer
        for node in others
        for peer in node.call("omni_getPeers")["peers"]
        if peer["peer_id"] == mad.identity.peer_id
    ]
    return len(told) == len(others) and all(p["score"] < 0 and not p["connected"] for p in told)
