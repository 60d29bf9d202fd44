"""A light client: from the validators of genesis to those of today, by the ends of epochs alone.

Rules
    L1. What is trusted is a genesis file. Each epoch's set is proven by the set before
        (`consensus.epoch_proof`); no block in between is looked at.
    L2. A checkpoint is true when > 2/3 of the power of its epoch's set signed it for the contract
        of genesis.

So it believes whichever network more than two thirds of each epoch's power stood behind. Stake that
was taken out may sign a false past: a client that was away for longer than the unbonding time
starts from something newer that it trusts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from omninode.consensus.epoch_proof import EpochProof, check_epoch_proof
from omninode.consensus.types import ValidatorSet
from omninode.crypto import recover_address
from omninode.dex.bridge.checkpoints import Checkpoint
from omninode.dex.bridge.evm import SettlementDomain, checkpoint_digest
from omninode.dex.genesis import Genesis
from omninode.encoding import decode
from omninode.errors import Malformed, PeerFault

PROOF_BYTES_MAX = 4 * 2**20
_COMPACT_BYTES = 64


class LightClient:
    """Follows one network.

    Attributes:
        validators: The newest set that is proven.
        newest: The end of the epoch before it; `None` while that is genesis' own.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.validators: ValidatorSet = genesis.validator_set
        self.newest: EpochProof | None = None
        self._genesis = genesis
        self._sets = {self.validators.epoch: self.validators}

    def follow(self, data: bytes) -> EpochProof:
        """Take the end of the newest known epoch (L1).

        Raises:
            PeerFault: It proves nothing.
        """
        try:
            proof = decode(data, EpochProof, size_max=PROOF_BYTES_MAX)
        except Malformed as error:
            raise PeerFault("bad_epoch_proof", str(error)) from None
        check_epoch_proof(proof, self.validators, self._genesis.hash)
        self.validators, self.newest = proof.validators, proof
        self._sets[self.validators.epoch] = self.validators
        return proof

    def check_checkpoint(self, document: Mapping[str, Any]) -> Checkpoint:
        """Check a certified checkpoint as `omni_getCheckpoint` has it (L2).

        Raises:
            PeerFault: It is not signed by a quorum, or not by one of a set that is known.
        """
        checkpoint, digest = self._read(document)
        validators = self._sets.get(checkpoint.epoch)
        if validators is None:
            raise _false("its epoch is not known yet")
        signers = _signers(document, digest)
        power = sum(v.power for v in validators.validators if v.address in signers)
        if not validators.is_quorum(power):
            raise _false(
                f"signed by {power} of {validators.total_power} of the power of epoch "
                f"{checkpoint.epoch}"
            )
        return checkpoint

    def _read(self, document: Mapping[str, Any]) -> tuple[Checkpoint, bytes]:
        contract = self._genesis.settlement_contract
        if contract is None:
            raise _false("the network has no settlement contract")
        domain = SettlementDomain(self._genesis.settlement_chain_id, contract, self._genesis.hash)
        try:
            values = [document[name] for name in Checkpoint.__struct_fields__]
            fields = [bytes.fromhex(v[2:]) if isinstance(v, str) else v for v in values]
            checkpoint = msgspec.convert(fields, Checkpoint)
            return checkpoint, checkpoint_digest(checkpoint, domain)
        except (KeyError, ValueError, msgspec.ValidationError) as error:
            raise _false(f"not a checkpoint: {error!r}") from None


def _signers(document: Mapping[str, Any], digest: bytes) -> set[bytes]:
    """Return who signed; signatures have the 64 bytes of EIP-2098."""
    signers = set()
    try:
        for text in document["signatures"]:
            compact = bytes.fromhex(text[2:])
            if len(compact) != _COMPACT_BYTES:
                raise _false("a signature of another length")
            parity, top = compact[32] >> 7, compact[32] & 0x7F
            signature = compact[:32] + bytes((top,)) + compact[33:] + bytes((27 + parity,))
            signers.add(recover_address(digest, signature))
    except (KeyError, TypeError, ValueError, Malformed) as error:
        raise _false(f"its signatures: {error}") from None
    return signers


def _false(why: str) -> PeerFault:
    return PeerFault("false_checkpoint", why)
