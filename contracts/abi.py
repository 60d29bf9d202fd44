"""The settlement contract's ABI: calls encoded, events and errors decoded, with web3.

Rules
    A1. A log that is not exactly one of the contract's events is `Malformed`: the ABI is that of
        the committed artifact, and the code on the chain was compared with it.
    A2. Events that a node has no use for are passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec
from eth_abi.exceptions import DecodingError
from eth_utils.abi import event_abi_to_log_topic, function_abi_to_4byte_selector

from omninode.contracts.artifacts import load_artifact
from omninode.contracts.events import Checkpointed, ContractEvent, Deposited, Rotated, Withdrawn
from omninode.contracts.web3_library import web3
from omninode.contracts.wire import Log
from omninode.crypto import checksum_address, parse_address
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint, Checkpoint
from omninode.dex.bridge.deposits import Deposit, StakeChange
from omninode.dex.bridge.evm import compact_signature, signer_bitmap
from omninode.dex.bridge.handover import CertifiedHandover
from omninode.dex.bridge.stake_proofs import StakeProof
from omninode.encoding import amount_to_bytes
from omninode.errors import Malformed

CONTRACT_NAME: Final = "Settlement"
_WORD: Final = 32
_AMOUNT_LIMIT: Final = 2**128


def _deposited(values: Mapping[str, Any]) -> Deposited:
    if values["amount"] >= _AMOUNT_LIMIT:
        raise Malformed("a deposit of more than 128 bits")
    deposit = Deposit(
        token=parse_address(values["token"]),
        account=parse_address(values["account"]),
        subaccount=values["subaccount"],
        amount=amount_to_bytes(values["amount"]),
    )
    return Deposited(values["index"], deposit, values["depositHash"])


def _stake_changed(values: Mapping[str, Any]) -> Deposited:
    if values["amount"] >= _AMOUNT_LIMIT:
        raise Malformed("an entry of stake of more than 128 bits")
    fields = (
        StakeChange.__struct_config__.tag,
        parse_address(values["owner"]),
        values["kind"],
        amount_to_bytes(values["amount"]),
        values["identity"],
    )
    try:
        change = msgspec.convert(fields, StakeChange)
    except msgspec.ValidationError as error:
        raise Malformed(f"no entry of stake is like that: {error}") from None
    return Deposited(values["index"], change, values["depositHash"])


_MAKERS: Final[dict[str, Callable[[Mapping[str, Any]], ContractEvent]]] = {
    "Deposited": _deposited,
    "StakeChanged": _stake_changed,
    "Checkpointed": lambda values: Checkpointed(values["number"]),
    "Withdrawn": lambda values: Withdrawn(values["index"]),
    "ValidatorsRotated": lambda values: Rotated(values["epoch"]),
}


class SettlementAbi:
    """Encodes and decodes for the contract at one address.

    Args:
        address: The contract's.
    """

    def __init__(self, address: bytes) -> None:
        self.address: Final = checksum_address(address)
        self._artifact = load_artifact(CONTRACT_NAME)
        offline = web3.Web3()
        self._codec = offline.codec
        self._contract = offline.eth.contract(
            address=offline.to_checksum_address(self.address), abi=self._artifact.abi
        )
        self._events = {
            event_abi_to_log_topic(cast("Any", entry)): entry
            for entry in self._artifact.abi
            if entry["type"] == "event"
        }
        self._errors = {
            function_abi_to_4byte_selector(cast("Any", {**entry, "type": "function"})): entry[
                "name"
            ]
            for entry in self._artifact.abi
            if entry["type"] == "error"
        }

    @property
    def json(self) -> list[dict[str, Any]]:
        """The ABI as web3 takes it."""
        return self._artifact.abi

    def is_code(self, code: bytes) -> bool:
        """Whether code on the chain is the artifact's, whatever its immutable values."""
        return self._artifact.matches(code)

    def decode_log(self, log: Log) -> ContractEvent | None:
        """Decode one event; `None` for one of no use here (A2).

        Raises:
            Malformed: It is no event of the contract (A1).
        """
        entry = self._events.get(log.topics[0]) if log.topics else None
        if entry is None:
            raise Malformed(f"a log in block {log.block_number} is no event of the contract")
        make = _MAKERS.get(entry["name"])
        return None if make is None else make(self._values(entry, log))

    def _values(self, entry: dict[str, Any], log: Log) -> dict[str, Any]:
        indexed = [field for field in entry["inputs"] if field["indexed"]]
        plain = [field for field in entry["inputs"] if not field["indexed"]]
        topics, data = b"".join(log.topics[1:]), log.data
        kinds = [field["type"] for field in plain]
        try:
            # What is indexed in these events takes one word each.
            values = self._codec.decode([field["type"] for field in indexed], topics)
            told = self._codec.decode(kinds, data)
            is_whole = (
                len(topics) == _WORD * len(indexed) and self._codec.encode(kinds, told) == data
            )
        except (DecodingError, OverflowError, ValueError) as error:
            raise Malformed(f"a log in block {log.block_number}: {error}") from None
        if not is_whole or len(topics) != _WORD * len(indexed):
            raise Malformed(f"a log in block {log.block_number} has the wrong size")
        names = [field["name"] for field in indexed + plain]
        return dict(zip(names, (*values, *told), strict=True))

    def submit_checkpoint(
        self, certified: CertifiedCheckpoint, validators: tuple[bytes, ...]
    ) -> bytes:
        """Return the call data of `submitCheckpoint`.

        Args:
            certified: The checkpoint and its signatures.
            validators: The epoch's validator set in words (`validator_set_words`).
        """
        checkpoint = certified.checkpoint
        fields = _checkpoint_fields(checkpoint)
        bitmap = signer_bitmap(index for index, _ in certified.signatures)
        signatures = b"".join(compact_signature(bytes(s)) for _, s in certified.signatures)
        data = self._contract.encode_abi(
            "submitCheckpoint", args=[fields, list(validators), bitmap, signatures]
        )
        return bytes.fromhex(data[2:])

    def rotate_validators(self, certified: CertifiedHandover) -> bytes:
        """Return the call data of `rotateValidators`."""
        handover = certified.handover
        bitmap = signer_bitmap(index for index, _ in certified.signatures)
        signatures = b"".join(compact_signature(bytes(s)) for _, s in certified.signatures)
        arguments = [handover.next_epoch, handover.next_set_hash, list(handover.words)]
        data = self._contract.encode_abi("rotateValidators", args=[*arguments, bitmap, signatures])
        return bytes.fromhex(data[2:])

    def prove_stake(self, proof: StakeProof) -> bytes:
        """Return the call data of `proveStake`."""
        leaf, owner = proof.leaf, checksum_address(proof.owner)
        data = self._contract.encode_abi(
            "proveStake",
            args=[
                _checkpoint_fields(proof.checkpoint),
                leaf.place,
                owner,
                leaf.amount,
                list(leaf.siblings),
            ],
        )
        return bytes.fromhex(data[2:])

    def error_name(self, data: object) -> str | None:
        """Return the name of the contract's error in a revert's data, if it is one."""
        if not isinstance(data, str) or data[:2] != "0x" or len(data) < 10:
            return None
        try:
            return self._errors.get(bytes.fromhex(data[2:10]))
        except ValueError:
            return None


def _checkpoint_fields(checkpoint: Checkpoint) -> tuple[int | bytes, ...]:
    """Return a checkpoint as the contract's struct."""
    return (
        checkpoint.number,
        checkpoint.epoch,
        checkpoint.height,
        checkpoint.time_ms,
        checkpoint.state_root,
        checkpoint.withdrawal_root,
        checkpoint.withdrawal_count,
        checkpoint.fee_root,
        checkpoint.deposit_count,
        checkpoint.deposit_hash,
    )
