"""What is to be brought to the contract next, by what it has and what the exchange has certified.

Rules
    E1. The contract takes checkpoints of its own epoch only, and a handover from it. So everything
        that goes before a handover is brought first: the newest certified checkpoint of the epoch,
        then the handover, then the newest checkpoint of the next epoch.
    E2. Only the newest certified checkpoint is brought. One of an epoch that is over is left out
        once there is a newer one; what it held is in that.
    E3. Slashed stakes are proven last, by the checkpoint that the contract has.
    E4. What the contract has is read from the chain each time and what is certified from the state,
        so nothing is remembered here, and a crash changes no order.

Pure: `relay` sends.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from omninode.crypto import checksum_address
from omninode.dex.bridge.checkpoints import CertifiedCheckpoint
from omninode.dex.bridge.handover import CertifiedHandover, Words
from omninode.dex.bridge.stake_proofs import StakeProof

Key: TypeAlias = tuple[str, int, bytes]

_STALE: Final = "StaleCheckpoint"
_WRONG_EPOCH: Final = "WrongEpoch"
_STALE_PROOF: Final = "StaleProof"


@dataclass(frozen=True, slots=True)
class Held:
    """What the contract has: its epoch, and the number of its newest checkpoint."""

    epoch: int
    checkpoint: int


@dataclass(frozen=True, slots=True)
class Errand:
    """One transaction to the contract.

    Attributes:
        key: Names it among all errands.
        number: Says whose turn it is.
        name: What it is, for people.
        encode: Returns its call data.
        overtaken_by: The contract's errors that say that it has this already.
        proves: Owner and checkpoint: nothing is to be done if the contract was shown the owner's
            stake by this one or a later one.
    """

    key: Key
    number: int
    name: str
    encode: Callable[[], bytes] = field(compare=False)
    overtaken_by: tuple[str, ...]
    proves: tuple[bytes, int] | None = None


class Calls(Protocol):
    """Encodes calls of the contract (`abi.SettlementAbi`)."""

    def submit_checkpoint(self, certified: CertifiedCheckpoint, validators: Words) -> bytes:
        """Return the call data of `submitCheckpoint`."""
        ...

    def rotate_validators(self, certified: CertifiedHandover) -> bytes:
        """Return the call data of `rotateValidators`."""
        ...

    def prove_stake(self, proof: StakeProof) -> bytes:
        """Return the call data of `proveStake`."""
        ...


class Errands:
    """Chooses the next errand.

    Args:
        calls: Encodes them.
        certified: Returns the newest certified checkpoint.
        words: Returns the set of a settlement epoch, if it is known.
        handover: Returns what leads on from a settlement epoch that is over, once certified.
        proofs: Returns the stakes that a checkpoint can prove and that are to be proven.
    """

    def __init__(
        self,
        calls: Calls,
        *,
        certified: Callable[[], CertifiedCheckpoint | None],
        words: Callable[[int], Words | None],
        handover: Callable[[int], CertifiedHandover | None],
        proofs: Callable[[int], Sequence[StakeProof]],
    ) -> None:
        self._calls = calls
        self._certified = certified
        self._words = words
        self._handover = handover
        self._proofs = proofs

    def next(self, held: Held, passed_over: Container[Key] = ()) -> Errand | None:
        """Return what to bring to a contract that holds this (E1).

        Args:
            held: What it holds.
            passed_over: Errands that are not to be run.
        """
        chosen = self._checkpoint(held) or self._handover_from(held)
        if chosen is not None:
            return None if chosen.key in passed_over else chosen
        proofs = map(self._proof, self._proofs(held.checkpoint))
        return next((errand for errand in proofs if errand.key not in passed_over), None)

    def _proof(self, proof: StakeProof) -> Errand:
        number, owner = proof.checkpoint.number, checksum_address(proof.owner)
        return Errand(
            ("proof", proof.due_from, proof.owner),
            number,
            f"the proof of {owner}'s stake by checkpoint {number}",
            lambda: self._calls.prove_stake(proof),
            (_STALE_PROOF,),
            (proof.owner, proof.due_from),
        )

    def _checkpoint(self, held: Held) -> Errand | None:
        certified = self._certified()
        if certified is None:
            return None
        number, epoch = certified.checkpoint.number, certified.checkpoint.epoch
        words = self._words(epoch)
        if epoch != held.epoch or number <= held.checkpoint or words is None:
            return None
        return Errand(
            ("checkpoint", number, b""),
            number,
            f"checkpoint {number}",
            lambda: self._calls.submit_checkpoint(certified, words),
            (_STALE,),
        )

    def _handover_from(self, held: Held) -> Errand | None:
        certified = self._handover(held.epoch)
        if certified is None:
            return None
        next_epoch = certified.handover.next_epoch
        return Errand(
            ("handover", next_epoch, b""),
            next_epoch,
            f"the handover to epoch {next_epoch}",
            lambda: self._calls.rotate_validators(certified),
            (_WRONG_EPOCH,),
        )
