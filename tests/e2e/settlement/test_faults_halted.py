"""A reorganisation deeper than the confirmations, and signatures of checkpoints made by hand.

While the validators' programs are halted nobody signs, so a checkpoint stays open for others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import msgspec
import pytest

from omninode.crypto import SigningKey
from omninode.dex.actions import SignCheckpoint
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.deposits import Cursor
from omninode.dex.bridge.evm import SettlementDomain, checkpoint_digest
from omninode.errors import UserError
from real_network import RealNode
from real_settlement import CONFIRMATIONS, Made, SettledNetwork, settled_network
from real_trading import limit_order

pytestmark = pytest.mark.slow

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass(frozen=True)
class Halted:
    """A network after its chain has lost a confirmed deposit.

    Attributes:
        lost: The deposit.
        credited: What was credited before.
        certified: The newest certified checkpoint after everybody had halted.
    """

    network: SettledNetwork
    lost: Made
    credited: Cursor
    certified: int


@pytest.fixture(scope="module")
def halted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Halted]:
    with settled_network(tmp_path_factory.mktemp("settled")) as network:
        network.heal()
        network.wait_checkpoints(1)
        lost = network.holders[0].deposit("USDC", "77")
        network.wait_deposits()
        network.assert_settled()
        network.chain.wait_height(lost.block + CONFIRMATIONS + 2)
        network.chain.reorganise_from(lost.block, keep=False)
        network.wait_state("halted")
        certified = network.settlement(network.validators[0])["certified"]
        yield Halted(network, lost, Cursor(lost.index + 1, lost.hash), certified)


def made_checkpoints(node: RealNode, after: int) -> dict[int, Checkpoint]:
    """Return the checkpoints with higher numbers that a node's newest blocks have made."""
    found: dict[int, Checkpoint] = {}
    height = node.height()
    while after + 1 not in found and height > 0:
        for event in node.block(height)["events"]:
            if event["event"] == "checkpoint" and event["number"] > after:
                fields = {
                    name: bytes.fromhex(event[name][2:])
                    if isinstance(event[name], str)
                    else event[name]
                    for name in Checkpoint.__struct_fields__
                }
                found[event["number"]] = Checkpoint(**fields)
        height -= 1
    return found


def test_a_lost_deposit_halts_attesting_and_signing_but_not_trading(halted: Halted) -> None:
    network, lost = halted.network, halted.lost
    node, other = network.validators[0], network.holders[1]
    for one in network.validators:
        # It halts at once, and finds out then how deep it goes.
        (told,) = network.wait_for(partial(one.events, "settlement_halted"))
        assert f"confirmed blocks {lost.block} to " in network.settlement(one)["detail"]
        assert told["level"] == "error"
    newest, before = network.contract.newest_checkpoint(), other.balance(node, "USDC")

    made = other.deposit("USDC", "9")
    assert made.index == lost.index  # the contract counts from what it has
    network.chain.wait_height(made.block + 2 * CONFIRMATIONS)
    certified = halted.certified
    network.wait_for(lambda: max(made_checkpoints(node, certified), default=0) > certified + 2)
    order = limit_order("buy", "0.9", "10", tif="ioc")
    for one in network.validators:
        assert other.trader.send(one, order)["code"] == "ok"
        assert network.settlement(one)["certified"] == certified
        assert network.credited(one) == halted.credited
        assert other.balance(one, "USDC") == before
    assert network.contract.newest_checkpoint() == newest

    victim = network.validators[2]
    victim.kill()
    victim.start()
    network.wait_in_sync([victim])
    network.wait_state("halted", [victim])
    assert network.settlement(victim)["certified"] == certified
    assert victim.health()[0] == 200
    network.assert_one_chain()


class Signing:
    """The newest open checkpoint, and everybody's keys."""

    def __init__(self, halted: Halted) -> None:
        network = self.network = halted.network
        self.node = network.validators[0]
        self.keys = [network.vote_key(one) for one in network.validators]
        self.domain = SettlementDomain(
            network.genesis.settlement_chain_id, network.contract.address, network.genesis.hash
        )
        certified = network.settlement(self.node)["certified"]
        made = network.wait_for(lambda: made_checkpoints(self.node, certified))
        self.checkpoint: Checkpoint = made[max(made)]

    def sign(self, key: SigningKey, **changes: object) -> bytes:
        """Sign the checkpoint, or one that differs, also in what it is for."""
        values = {
            part: {k: v for k, v in changes.items() if k in part.__struct_fields__}
            for part in (SettlementDomain, Checkpoint)
        }
        domain = msgspec.structs.replace(self.domain, **values[SettlementDomain])
        checkpoint = msgspec.structs.replace(self.checkpoint, **values[Checkpoint])
        return key.sign(checkpoint_digest(checkpoint, domain))

    def say(self, by: SigningKey, signature: bytes, number: int | None = None) -> str:
        """Return `ok`, or why the signature does not count."""
        action = SignCheckpoint(self.checkpoint.number if number is None else number, signature)
        result = self.network.say(by, action, node=self.node)
        return str(result["code"] if result["code"] == "ok" else result["reason"])

    def certified(self) -> int:
        return int(self.network.settlement(self.node)["certified"])


def high_s(signature: bytes) -> bytes:
    """Return the other signature of the same key and message."""
    s = SECP256K1_ORDER - int.from_bytes(signature[32:64], "big")
    return signature[:32] + s.to_bytes(32, "big") + bytes((27 + 28 - signature[64],))


WRONG: dict[str, Callable[[Signing, SigningKey], bytes]] = {
    "another chain": lambda it, key: it.sign(key, chain_id=it.domain.chain_id + 1),
    "another contract": lambda it, key: it.sign(key, contract=it.domain.contract[::-1]),
    "another genesis": lambda it, key: it.sign(key, genesis_hash=it.domain.genesis_hash[::-1]),
    "another epoch": lambda it, key: it.sign(key, epoch=it.checkpoint.epoch + 1),
    "another number": lambda it, key: it.sign(key, number=it.checkpoint.number - 1),
    "another state": lambda it, key: it.sign(key, state_root=bytes(32)),
    "another key": lambda it, _: it.sign(it.keys[1]),
    "high s": lambda it, key: high_s(it.sign(key)),
    "wrong v": lambda it, key: it.sign(key)[:64] + b"\x1d",
    "rubbish": lambda _, __: bytes(65),
}


def test_only_right_signatures_of_validators_certify(halted: Halted) -> None:
    it = Signing(halted)
    first, number = it.keys[0], it.checkpoint.number
    for name, wrong in WRONG.items():
        assert it.say(first, wrong(it, first)) == "bad_signature", name
    assert it.say(first, it.sign(first), number + 1_000) == "checkpoint_closed"
    assert it.say(first, it.sign(first), halted.certified) == "checkpoint_closed"
    stranger = halted.network.holders[0].key
    with pytest.raises(UserError, match="not a validator's"):
        it.say(stranger, it.sign(stranger))

    assert it.say(first, it.sign(first)) == "ok"
    for again in (it.sign(first), high_s(it.sign(first)), it.sign(it.keys[1])):
        assert it.say(first, again) == "already_signed"
    assert it.say(it.keys[1], it.sign(first)) == "bad_signature"
    assert it.say(it.keys[1], it.sign(it.keys[1])) == "ok"
    assert it.certified() == halted.certified  # half of the power
    assert it.say(it.keys[3], it.sign(it.keys[3])) == "ok"
    assert it.certified() == number
    assert it.say(it.keys[2], it.sign(it.keys[2])) == "checkpoint_closed"

    shown = it.node.call("omni_getCheckpoint")
    assert shown["number"] == number
    assert int(shown["bitmap"], 16) == 0b1011
    halted.network.assert_one_chain()
