"""What a validator registers as: its keys, its name, and the proofs that the keys are its own.

Rules (PROTOCOL.md P6)
    I1. An identity is a canonical msgpack array. The vote key's owner signs the whole of it for one
        network and one owner of the stake, so nobody can register somebody else's key.
    I2. A beacon key needs a proof that its secret is known (rule B3 of `bls`); a validator may have
        none, and then leads without moving the beacon.
"""

from __future__ import annotations

from typing import Annotated

import coincurve
import msgspec

from omninode.bls import verify_possession
from omninode.consensus.types import BEACON_KEY_BYTES, BEACON_PROOF_BYTES
from omninode.crypto import SigningKey, address_of, recover_address, tagged_hash
from omninode.dex.staking.limits import (
    IDENTITY_BYTES_MAX,
    MONIKER_CHARS_MAX,
    PEER_ID_CHARS_MAX,
)
from omninode.encoding import decode, encode
from omninode.errors import Malformed, Rejected

_VISIBLE = r"\A[!-~](?:[ -~]*[!-~])?\Z"


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """What a registration carries besides the stake (I1)."""

    public_key: Annotated[bytes, msgspec.Meta(min_length=33, max_length=33)]
    beacon_key: Annotated[bytes, msgspec.Meta(max_length=BEACON_KEY_BYTES)]
    beacon_proof: Annotated[bytes, msgspec.Meta(max_length=BEACON_PROOF_BYTES)]
    peer_id: Annotated[
        str, msgspec.Meta(max_length=PEER_ID_CHARS_MAX, pattern=r"\A[1-9A-HJ-NP-Za-km-z]+\Z")
    ]
    moniker: Annotated[str, msgspec.Meta(max_length=MONIKER_CHARS_MAX, pattern=_VISIBLE)]
    vote_signature: Annotated[bytes, msgspec.Meta(min_length=65, max_length=65)]

    @property
    def address(self) -> bytes:
        """The vote key's address.

        Raises:
            Malformed: It is not a point of the curve.
        """
        try:
            return address_of(coincurve.PublicKey(self.public_key))
        except ValueError:
            raise Malformed("public_key: not a compressed secp256k1 key") from None


def decode_identity(data: bytes) -> Identity:
    """Decode an identity; nothing is proven yet.

    Raises:
        Malformed: Not the canonical encoding of one.
    """
    return decode(data, Identity, size_max=IDENTITY_BYTES_MAX)


def registration_digest(identity: Identity, owner: bytes, genesis_hash: bytes) -> bytes:
    """Return what the vote key signs (I1)."""
    return tagged_hash(
        "omni/register/1",
        genesis_hash,
        owner,
        identity.public_key,
        identity.beacon_key,
        identity.peer_id.encode(),
    )


def check_identity(identity: Identity, owner: bytes, genesis_hash: bytes) -> bytes:
    """Check that whoever registers has the keys; about 1 ms.

    Returns:
        The vote key's address.

    Raises:
        Rejected: `bad_identity`: a key that is none; `bad_vote_signature`; `bad_beacon_proof`.
    """
    try:
        address = identity.address
    except Malformed as error:
        raise Rejected("bad_identity", str(error)) from None
    try:
        digest = registration_digest(identity, owner, genesis_hash)
        is_own = recover_address(digest, identity.vote_signature) == address
    except Malformed:
        is_own = False
    if not is_own:
        raise Rejected("bad_vote_signature", "the vote key did not sign for this owner")
    if not identity.beacon_key and not identity.beacon_proof:
        return address
    if not verify_possession(identity.beacon_key, identity.beacon_proof):
        raise Rejected("bad_beacon_proof", "the beacon key comes without a proof of its secret")
    return address


def sign_identity(
    key: SigningKey,
    *,
    owner: bytes,
    genesis_hash: bytes,
    peer_id: str,
    moniker: str,
    beacon_key: bytes = b"",
    beacon_proof: bytes = b"",
) -> bytes:
    """Return the encoded identity of a validator with this vote key, for `register`."""
    identity = Identity(key.public_key, beacon_key, beacon_proof, peer_id, moniker, bytes(65))
    signature = key.sign(registration_digest(identity, owner, genesis_hash))
    return encode(msgspec.structs.replace(identity, vote_signature=signature))
