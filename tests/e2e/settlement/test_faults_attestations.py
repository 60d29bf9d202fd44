"""A validator that attests deposits which never were, and others who would like to."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import AttestDeposits
from omninode.dex.bridge.deposits import Cursor, Deposit
from omninode.dex.bridge.limits import PENDING_DEPOSITS_MAX
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import (
    SCHEME_WALLET,
    attestation_digest,
    encode_unsigned,
    sign_validator,
)
from omninode.errors import UserError
from real_network import RealNode
from real_settlement import Holder, SettledNetwork

pytestmark = pytest.mark.slow

SIGNATURE_HEADER = b"\xc4\x41"
FORTUNE = "1000000"


class Liar:
    """A validator whose own process is dead, and whose key somebody uses."""

    def __init__(self, network: SettledNetwork, node: RealNode) -> None:
        self.node = node
        self.key = network.vote_key(node)
        self.address = checksum_address(self.key.address)
        self.others = [other for other in network.validators if other is not node]
        self._network = network
        node.kill()

    def claim(self, holder: Holder, after: Cursor, count: int = 1) -> tuple[AttestDeposits, Cursor]:
        """Return an attestation of deposits that never were, and the cursor after them."""
        deposits: list[Deposit] = []
        cursor = after
        for _ in range(count):
            deposit, cursor = self._network.invent(holder, FORTUNE, after=cursor)
            deposits.append(deposit)
        return AttestDeposits(after.hash, cursor.count, cursor.hash, tuple(deposits)), cursor


def refusal(network: SettledNetwork, raw: bytes, node: RealNode) -> str:
    """Return why a node does not even take a transaction."""
    with pytest.raises(UserError) as refused:
        network.send_raw(raw, node=node)
    return refused.value.reason


def assert_only_real_deposits_count(
    network: SettledNetwork, nodes: Sequence[RealNode], holder: Holder
) -> None:
    """Make a deposit, and check that it and nothing else is credited."""
    before, count = holder.balance(nodes[0], "USDC"), network.credited(nodes[0]).count
    made = holder.deposit("USDC", "5.000005")
    assert made.index == count
    network.wait_deposits(nodes)
    for node in nodes:
        assert network.credited(node) == Cursor(count + 1, made.hash)
        assert holder.balance(node, "USDC") == before + made.amount


def test_a_deposit_that_never_was_is_not_credited_and_its_author_named(
    settled: SettledNetwork,
) -> None:
    holder = settled.holders[0]
    liar = Liar(settled, settled.validators[3])
    node, credited = liar.others[0], settled.credited(liar.others[0])
    false, lie = liar.claim(holder, credited)
    assert settled.say(liar.key, false, node=node)["code"] == "ok"
    assert settled.credited(node) == credited
    height = node.height()

    assert_only_real_deposits_count(settled, liar.others, holder)
    for other in liar.others:
        sides = settled.wait_for(lambda other=other: settled.named(other))
        assert sides["0x" + lie.hash.hex()] == [liar.address]
        assert liar.address in settled.settlement(other)["detail"]
        assert settled.settlement(other)["state"] == "following"
    told = [
        event
        for number in range(height, node.height() + 1)
        for event in node.block(number)["events"]
        if event["event"] == "deposit_disagreement"
    ]
    assert {"hash": "0x" + lie.hash.hex(), "validators": [liar.address]} in told[0]["sides"]
    settled.wait_checkpoints(2)

    liar.node.start()  # its own program knows better
    settled.wait_in_sync([liar.node])
    settled.wait_state("following")
    assert_only_real_deposits_count(settled, settled.validators, holder)
    settled.wait_for(lambda: not any(settled.named(one) for one in settled.validators))
    settled.assert_settled()


def test_attesting_twice_or_otherwise_counts_once(settled: SettledNetwork) -> None:
    holder = settled.holders[0]
    liar = Liar(settled, settled.validators[2])
    node, credited = liar.others[0], settled.credited(liar.others[0])
    false, _ = liar.claim(holder, credited)
    other, _ = liar.claim(settled.holders[1], credited)
    for statement in (false, false, other, false, other):
        assert settled.say(liar.key, statement, node=node)["code"] == "ok"
        assert settled.credited(node) == credited

    domain = Domain(settled.genesis.settlement_chain_id, settled.genesis.hash)
    nonce = holder.trader.nonce()
    once = sign_validator(liar.key, false, nonce=nonce, domain=domain)
    assert settled.send_raw(once.raw, node=node)["code"] == "ok"
    height = settled.send_raw(once.raw, node=node)["height"]
    assert settled.send_raw(once.raw, node=liar.others[1])["height"] == height
    assert settled.say(liar.key, other, node=node)["code"] == "ok"
    again = sign_validator(liar.key, other, nonce=nonce, domain=domain)
    assert refusal(settled, again.raw, node) == "nonce_used"
    assert settled.credited(node) == credited

    assert_only_real_deposits_count(settled, liar.others, holder)
    liar.node.start()
    settled.heal()
    settled.assert_settled()


def test_nobody_else_attests(settled: SettledNetwork) -> None:
    holder, node = settled.holders[0], settled.validators[0]
    genesis, credited = settled.genesis, settled.credited(node)
    domain = Domain(genesis.settlement_chain_id, genesis.hash)
    key = settled.vote_key(settled.validators[1])
    deposit, cursor = settled.invent(holder, FORTUNE, after=credited)
    false = AttestDeposits(credited.hash, cursor.count, cursor.hash, (deposit,))

    def signed_by(signer: SigningKey, *, scheme: int, account: bytes, within: Domain) -> bytes:
        unsigned = encode_unsigned(
            scheme, account=account, nonce=holder.trader.nonce(), action=false
        )
        return unsigned + SIGNATURE_HEADER + signer.sign(attestation_digest(unsigned, within))

    trader = holder.key
    stranger = sign_validator(trader, false, nonce=holder.trader.nonce(), domain=domain)
    assert refusal(settled, stranger.raw, node) == "not_authorised"
    for signer in (trader, key):
        wallet = signed_by(signer, scheme=SCHEME_WALLET, account=signer.address, within=domain)
        assert refusal(settled, wallet, node) == "malformed"
    forged = signed_by(trader, scheme=2, account=key.address, within=domain)
    assert refusal(settled, forged, node) == "bad_signature"
    for strange in (
        Domain(genesis.settlement_chain_id, bytes(32)),
        Domain(genesis.settlement_chain_id, genesis.hash[::-1]),
    ):
        foreign = signed_by(key, scheme=2, account=key.address, within=strange)
        assert refusal(settled, foreign, node) == "bad_signature"
    assert settled.credited(node) == credited
    assert_only_real_deposits_count(settled, settled.validators, holder)
    settled.assert_settled()


def test_as_many_lies_as_the_state_takes_hold_up_nothing(settled: SettledNetwork) -> None:
    holder = settled.holders[1]
    liar = Liar(settled, settled.validators[1])
    node, credited = liar.others[0], settled.credited(liar.others[0])

    too_long, _ = liar.claim(holder, credited, count=65)
    domain = Domain(settled.genesis.settlement_chain_id, settled.genesis.hash)
    raw = sign_validator(liar.key, too_long, nonce=holder.trader.nonce(), domain=domain).raw
    assert refusal(settled, raw, node) == "malformed"

    wrong = AttestDeposits(credited.hash, credited.count + 1, bytes(32), too_long.deposits[:1])
    assert settled.say(liar.key, wrong, node=node)["reason"] == "wrong_hash"
    orphan, _ = liar.claim(holder, Cursor(credited.count + 2, bytes(32)))
    assert settled.say(liar.key, orphan, node=node)["reason"] == "unknown_parent"
    nothing = AttestDeposits(bytes(32), credited.count + 1, bytes(32), ())
    assert settled.say(liar.key, nothing, node=node)["reason"] == "unknown_parent"
    if credited.count:
        stale = AttestDeposits(credited.hash, credited.count - 1, credited.hash, ())
        assert settled.say(liar.key, stale, node=node)["reason"] == "stale_attestation"

    cursor = credited
    while cursor.count < credited.count + PENDING_DEPOSITS_MAX:
        lies, cursor = liar.claim(holder, cursor, count=64)
        assert settled.say(liar.key, lies, node=node)["code"] == "ok"
    more, _ = liar.claim(holder, cursor)
    assert settled.say(liar.key, more, node=node)["reason"] == "too_far_ahead"
    assert settled.credited(node) == credited

    assert_only_real_deposits_count(settled, liar.others, holder)
    settled.wait_checkpoints(2)
    liar.node.start()
    settled.heal()
    assert_only_real_deposits_count(settled, settled.validators, holder)
    settled.assert_settled()


def test_half_of_the_power_credits_nothing_false(settled: SettledNetwork) -> None:
    holder, thief = settled.holders
    honest, liars = settled.validators[:2], settled.validators[2:]
    node, credited = honest[0], settled.credited(honest[0])
    before, stolen = holder.balance(node, "USDC"), thief.balance(node, "USDC")
    for one in liars:
        settled.gate(one).refuse()  # so that their own programs do not know better
    settled.wait_state("unreachable", liars)
    deposit, lie = settled.invent(thief, FORTUNE, after=credited)
    false = AttestDeposits(credited.hash, lie.count, lie.hash, (deposit,))
    for one in liars:
        assert settled.say(settled.vote_key(one), false, node=node)["code"] == "ok"
    made = holder.deposit("USDC", "7")
    wanted = {
        "0x" + made.hash.hex(): [one.address for one in honest],
        "0x" + lie.hash.hex(): [one.address for one in liars],
    }
    for one in settled.validators:
        settled.wait_for(lambda one=one: settled.named(one) == wanted)
        assert settled.credited(one) == credited

    for one in liars:
        settled.gate(one).open()
    settled.wait_deposits()
    settled.wait_for(lambda: not any(settled.named(one) for one in settled.validators))
    for one in settled.validators:
        assert holder.balance(one, "USDC") == before + made.amount
        assert thief.balance(one, "USDC") == stolen
    settled.assert_settled()
