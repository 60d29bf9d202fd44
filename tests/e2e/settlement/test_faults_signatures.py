"""What validators really signed, changed in every way, before the real contract."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import eth_abi
import msgspec
import pytest

from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import SettlementDomain, checkpoint_digest, compact_signature
from omninode.errors import EndpointError
from real_settlement import SUBMIT, SettledNetwork

pytestmark = pytest.mark.slow

SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
CHECKPOINT = "(uint64,uint64,uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32)"


@dataclass(frozen=True)
class Call:
    """The arguments of `submitCheckpoint`, and who can sign others."""

    checkpoint: Checkpoint
    words: tuple[bytes, ...]
    bitmap: int
    signatures: tuple[bytes, ...]
    keys: tuple[SigningKey, ...]
    domain: SettlementDomain

    def data(self) -> str:
        arguments = eth_abi.encode(
            [CHECKPOINT, "bytes32[]", "uint256", "bytes"],
            [
                msgspec.structs.astuple(self.checkpoint),
                list(self.words),
                self.bitmap,
                b"".join(self.signatures),
            ],
        )
        return "0x" + (SUBMIT + arguments).hex()

    def but(self, **changes: Any) -> Call:
        """Return it with another checkpoint, signed by nobody."""
        return replace(self, checkpoint=msgspec.structs.replace(self.checkpoint, **changes))

    def signed(self, **domain: Any) -> Call:
        """Return it signed by everybody, for the contract or for something else."""
        meant = msgspec.structs.replace(self.domain, **domain)
        digest = checkpoint_digest(self.checkpoint, meant)
        signatures = tuple(compact_signature(key.sign(digest)) for key in self.keys)
        return replace(self, bitmap=2 ** len(self.keys) - 1, signatures=signatures)


def high_s(signature: bytes) -> bytes:
    """Return the signature with the other s; its top bit is where the parity should be."""
    s = int.from_bytes(signature[32:], "big") & (2**255 - 1)
    return signature[:32] + (SECP256K1_ORDER - s).to_bytes(32, "big")


def lowest_bits(count: int, bitmap: int) -> int:
    bits = [place for place in range(256) if bitmap >> place & 1]
    return sum(1 << place for place in bits[:count])


RIGHT: dict[str, Callable[[Call], Call]] = {
    "as certified": lambda it: it,
    "by everybody": lambda it: it.signed(),
    "a later number": lambda it: it.but(number=it.checkpoint.number + 100).signed(),
}
WRONG: dict[str, tuple[str, Callable[[Call], Call]]] = {
    "reordered": ("WrongSignature", lambda it: replace(it, signatures=it.signatures[::-1])),
    "one twice": (
        "WrongSignature",
        lambda it: replace(it, signatures=(it.signatures[0], *it.signatures[:-1])),
    ),
    "one too many": (
        "WrongSignature",
        lambda it: replace(it, signatures=(*it.signatures, it.signatures[0])),
    ),
    "one too few": ("WrongSignature", lambda it: replace(it, signatures=it.signatures[:-1])),
    "high s": (
        "WrongSignature",
        lambda it: replace(it, signatures=(high_s(it.signatures[0]), *it.signatures[1:])),
    ),
    "rubbish": ("WrongSignature", lambda it: replace(it, signatures=(bytes(64),) * 3)),
    "half of the power": (
        "NoQuorum",
        lambda it: replace(it, bitmap=lowest_bits(2, it.bitmap), signatures=it.signatures[:2]),
    ),
    "nobody": ("NoQuorum", lambda it: replace(it, bitmap=0, signatures=())),
    "a fifth of four": (
        "WrongBitmap",
        lambda it: replace(it, bitmap=it.bitmap | 1 << 4, signatures=(*it.signatures, bytes(64))),
    ),
    "one with more power": (
        "WrongValidatorSet",
        lambda it: replace(it, words=(it.words[0][:-1] + b"\xff", *it.words[1:])),
    ),
    "a part of the set": ("WrongValidatorSet", lambda it: replace(it, words=it.words[:3])),
    "another state": ("WrongSignature", lambda it: it.but(state_root=bytes(32))),
    "another withdrawal root": ("WrongSignature", lambda it: it.but(withdrawal_root=b"w" * 32)),
    "more withdrawals": ("WrongSignature", lambda it: it.but(withdrawal_count=2**63)),
    "another chain": ("WrongSignature", lambda it: it.signed(chain_id=1)),
    "another contract": ("WrongSignature", lambda it: it.signed(contract=b"\xc0" * 20)),
    "another network": ("WrongSignature", lambda it: it.signed(genesis_hash=b"g" * 32)),
    "another epoch": ("WrongEpoch", lambda it: it.but(epoch=it.checkpoint.epoch + 1).signed()),
    "an old one": ("StaleCheckpoint", lambda it: it.but(number=1).signed()),
    "an old height": ("StaleCheckpoint", lambda it: it.but(height=1).signed()),
    "deposits that never were": (
        "WrongDepositCount",
        lambda it: it.but(deposit_count=it.checkpoint.deposit_count + 1).signed(),
    ),
}


def certified_and_not_submitted(network: SettledNetwork) -> Call:
    """Hold back all transactions until there is a certified checkpoint that the contract lacks."""
    for gate in network.every_gate():
        gate.hold_sends()
    network.chain.wait_height(network.chain.height() + 2)  # what was on its way is there
    node, newest = network.validators[0], network.contract.newest_checkpoint()
    network.wait_for(lambda: network.settlement(node)["certified"] > newest)
    shown = node.call("omni_getCheckpoint")
    values = {name: shown[name] for name in Checkpoint.__struct_fields__}
    fields = {k: bytes.fromhex(v[2:]) if isinstance(v, str) else v for k, v in values.items()}
    return Call(
        checkpoint=Checkpoint(**fields),
        words=tuple(bytes.fromhex(word[2:]) for word in shown["set"]),
        bitmap=int(shown["bitmap"], 16),
        signatures=tuple(bytes.fromhex(one[2:]) for one in shown["signatures"]),
        keys=tuple(network.vote_key(one) for one in network.validators),
        domain=SettlementDomain(
            network.genesis.settlement_chain_id, network.contract.address, network.genesis.hash
        ),
    )


def test_the_contract_takes_what_the_validators_signed_and_nothing_else(
    settled: SettledNetwork,
) -> None:
    settled.wait_checkpoints(2)
    right = certified_and_not_submitted(settled)
    holder, contract = settled.holders[0], settled.contract.address

    def refusal(call: Call) -> str:
        """Return the selector of the contract's error, or nothing."""
        asked = {"to": checksum_address(contract), "data": call.data()}
        try:
            settled.chain.call("eth_call", asked, "latest")
        except EndpointError as error:
            return str(error.data)[:10]
        return ""

    for name, change in RIGHT.items():
        assert refusal(change(right)) == "", name
    arguments = {"NoQuorum": "(uint256,uint256)"}
    for name, (reason, change) in WRONG.items():
        text = reason + arguments.get(reason, "()")
        assert refusal(change(right)) == "0x" + keccak256(text.encode())[:4].hex(), name

    assert holder.wait_mined(holder.send(contract, right.data()))["status"] == "0x1"
    again = holder.wait_mined(holder.send(contract, right.data()))
    assert again["status"] == "0x0"
    assert settled.contract.newest_checkpoint() == right.checkpoint.number
    for gate in settled.every_gate():
        gate.let_pass()
    settled.wait_checkpoints(2)
    settled.assert_settled()
