"""What the settlement contract hashes and checks, byte for byte as Solidity's `abi.encode` has it.

Rules
    V1. All hashed tuples are static: a word of 32 bytes per field, integers and addresses padded on
        the left. A tree's leaf is hashed twice, so that no inner node can pass for one.
    V2. A checkpoint is signed as EIP-712 typed data under the domain of one contract on one chain,
        and its message begins with the genesis hash: a signature counts for one network, one
        contract and one chain.
    V3. A validator is one word: its address, then its power in 96 bits. The set's order is that of
        the validator set; bit `i` of a bitmap of signers is validator `i`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Final

import msgspec

from omninode.crypto import keccak256
from omninode.errors import Malformed

if TYPE_CHECKING:
    from omninode.consensus.types import ValidatorSet
    from omninode.dex.bridge.checkpoints import Checkpoint

DOMAIN_NAME: Final = "OmniNode Settlement"
DOMAIN_VERSION: Final = "1"
ZERO_ADDRESS: Final = bytes(20)

STAKE_SUBACCOUNT: Final = 1_000
"""Where the state tree has what an owner has staked; no action can name it."""

_WORD: Final = 32
_POWER_BYTES: Final = 12
_DOMAIN_TYPE: Final = keccak256(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_CHECKPOINT_TYPE: Final = keccak256(
    b"Checkpoint(bytes32 genesisHash,uint64 number,uint64 epoch,uint64 height,uint64 timeMs,"
    b"bytes32 stateRoot,bytes32 withdrawalRoot,uint64 withdrawalCount,bytes32 feeRoot,"
    b"uint64 depositCount,bytes32 depositHash)"
)


_HANDOVER_TYPE: Final = keccak256(
    b"Handover(bytes32 genesisHash,uint64 epoch,uint64 nextEpoch,bytes32 nextSetHash)"
)
_STAKE_ENTRY: Final = keccak256(b"stake")


def _uint(value: int) -> bytes:
    return value.to_bytes(_WORD, "big")


def _address(value: bytes) -> bytes:
    return bytes(_WORD - len(value)) + value


class SettlementDomain(msgspec.Struct, frozen=True, dict=True):
    """The contract a signature is for (V2).

    Args:
        chain_id: EIP-155 id of the contract's chain.
        contract: Its 20-byte address.
        genesis_hash: Hash of the network's canonical genesis.
    """

    chain_id: int
    contract: bytes
    genesis_hash: bytes

    @cached_property
    def separator(self) -> bytes:
        """The EIP-712 domain separator."""
        return keccak256(
            _DOMAIN_TYPE
            + keccak256(DOMAIN_NAME.encode())
            + keccak256(DOMAIN_VERSION.encode())
            + _uint(self.chain_id)
            + _address(self.contract)
        )


def _checkpoint_words(checkpoint: Checkpoint) -> bytes:
    """Return the fields of the contract's struct in its order (V1)."""
    return b"".join(
        (
            _uint(checkpoint.number),
            _uint(checkpoint.epoch),
            _uint(checkpoint.height),
            _uint(checkpoint.time_ms),
            checkpoint.state_root,
            checkpoint.withdrawal_root,
            _uint(checkpoint.withdrawal_count),
            checkpoint.fee_root,
            _uint(checkpoint.deposit_count),
            checkpoint.deposit_hash,
        )
    )


def checkpoint_digest(checkpoint: Checkpoint, domain: SettlementDomain) -> bytes:
    """Return the EIP-712 digest that validators sign for a checkpoint (V2)."""
    message = keccak256(_CHECKPOINT_TYPE + domain.genesis_hash + _checkpoint_words(checkpoint))
    return keccak256(b"\x19\x01" + domain.separator + message)


def handover_digest(
    epoch: int, *, next_epoch: int, next_set_hash: bytes, domain: SettlementDomain
) -> bytes:
    """Return the EIP-712 digest that the validators of `epoch` sign to hand over (V2)."""
    message = keccak256(
        _HANDOVER_TYPE + domain.genesis_hash + _uint(epoch) + _uint(next_epoch) + next_set_hash
    )
    return keccak256(b"\x19\x01" + domain.separator + message)


def checkpoint_commitment(checkpoint: Checkpoint) -> bytes:
    """Return what the contract keeps of a checkpoint."""
    return keccak256(_checkpoint_words(checkpoint))


def validator_set_words(validator_set: ValidatorSet) -> tuple[bytes, ...]:
    """Return the set as the contract takes it (V3)."""
    return tuple(
        validator.address + validator.power.to_bytes(_POWER_BYTES, "big")
        for validator in validator_set.validators
    )


def validator_set_hash(epoch: int, words: tuple[bytes, ...]) -> bytes:
    """Return the hash under which the contract knows an epoch's set."""
    array_offset = 2 * _WORD
    return keccak256(_uint(epoch) + _uint(array_offset) + _uint(len(words)) + b"".join(words))


def signer_bitmap(indices: Iterable[int]) -> int:
    """Return the bitmap of signers (V3)."""
    bitmap = 0
    for index in indices:
        bitmap |= 1 << index
    return bitmap


def compact_signature(signature: bytes) -> bytes:
    """Return 64 bytes `r | yParityAndS` (EIP-2098) of 65 bytes `r | s | v`.

    Raises:
        Malformed: Not 65 bytes, `v` neither 27 nor 28, or an `s` whose top bit is taken.
    """
    if len(signature) != 65 or signature[64] not in (27, 28) or signature[32] & 0x80:
        raise Malformed("not a signature with low s and v of 27 or 28")
    parity = (signature[64] - 27) << 7
    return signature[:32] + bytes((signature[32] | parity,)) + signature[33:64]


def deposit_hash(
    previous: bytes, index: int, *, token: bytes, account: bytes, subaccount: int, amount: int
) -> bytes:
    """Return the contract's rolling hash after a deposit; the first previous is the genesis hash.

    Args:
        previous: The hash before.
        index: The deposit's number, from 0.
        token: The token's address.
        account: Whom to credit.
        subaccount: Where.
        amount: In the token's base units.
    """
    return keccak256(
        previous
        + _uint(index)
        + _address(token)
        + _address(account)
        + _uint(subaccount)
        + _uint(amount)
    )


def stake_hash(
    previous: bytes, index: int, *, owner: bytes, kind: int, amount: int, identity: bytes
) -> bytes:
    """Return the contract's rolling hash after an entry of stake, which stands among deposits.

    Args:
        previous: The hash before.
        index: The entry's number, from 0.
        owner: Who asked.
        kind: What for, 1 to 5.
        amount: In the stake token's base units.
        identity: Of the validator; empty but for a registration.
    """
    return keccak256(
        previous
        + _uint(index)
        + _STAKE_ENTRY
        + _address(owner)
        + _uint(kind)
        + _uint(amount)
        + keccak256(identity)
    )


def _leaf(words: bytes) -> bytes:
    return keccak256(keccak256(words))


def withdrawal_leaf(index: int, token: bytes, recipient: bytes, amount: int) -> bytes:
    """Return a withdrawal's leaf (V1)."""
    return _leaf(_uint(index) + _address(token) + _address(recipient) + _uint(amount))


def state_leaf(index: int, account: bytes, subaccount: int, token: bytes, amount: int) -> bytes:
    """Return the leaf of what one subaccount owns of an asset, free and held (V1)."""
    return _leaf(
        _uint(index) + _address(account) + _uint(subaccount) + _address(token) + _uint(amount)
    )


def fee_leaf(index: int, recipient: bytes, token: bytes, amount: int) -> bytes:
    """Return the leaf of fees that somebody has collected (V1)."""
    return _leaf(_uint(index) + _address(recipient) + _address(token) + _uint(amount))
