"""Beacon keys: published vectors, an independent implementation, and what strangers may send."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_ecc.bls import G2MessageAugmentation

from omninode.bls import (
    GROUP_ORDER,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    BeaconKey,
    is_public_key,
    verify,
    verify_possession,
)
from omninode.crypto import tagged_hash
from omninode.errors import Malformed

# Published with the reference implementations of the scheme: the first two were made with py_ecc,
# the third with the C++ library.
VECTORS = [
    (
        "01" * 32,
        "030104010509",
        (
            "8180f02ccb72e922b152fcedbe0e1d195210354f70703658e8e08cbebf11d497"
            "0eab6ac3ccf715f3fb876df9a9797abd0c1af61aaeadc92c2cfe5c0a56c146cc"
            "8c3f7151a073cf5f16df38246724c4aed73ff30ef5daa6aacaed1a26ecaa336b"
        ),
    ),
    (
        bytes(x * 314159 % 256 for x in range(32)).hex(),
        "030104010509",
        (
            "99111eeafb412da61e4c37d3e806c6fd6ac9f3870e54da9222ba4e494822c5b7"
            "656731fa7a645934d04b559e9261b86201bbee57055250a459a2da10e51f9c1a"
            "6941297ffc5d970a557236d0bdeb7cf8ff18800b08633871a0f0a7ea42f47480"
        ),
    ),
    (
        "52d75c4707e39595b27314547f9723e5530c01198af3fc5849d9a7af65631efb",
        b"foobar".hex(),
        (
            "b45825c0ee7759945c0189b4c38b7e54231ebadc83a851bec3bb7cf954a124ae"
            "0cc8e8e5146558332ea152f63bf8846e04826185ef60e817f271f8d500126561"
            "319203f9acb95809ed20c193757233454be1562a5870570941a84605bd2c9c9a"
        ),
    ),
]

FIELD = (
    "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf"
    "6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab"
)
INFINITY = b"\xc0" + bytes(PUBLIC_KEY_BYTES - 1)
INFINITY_SIGNATURE = b"\xc0" + bytes(SIGNATURE_BYTES - 1)

# x = 4 is on the curve and of another order than the subgroup's.
OUTSIDE_OF_THE_SUBGROUP = b"\x80" + bytes(PUBLIC_KEY_BYTES - 2) + b"\x04"

NO_KEYS = [
    b"",
    bytes(PUBLIC_KEY_BYTES),
    INFINITY,
    INFINITY[:-1],
    INFINITY[:-1] + b"\x01",
    b"\xe0" + INFINITY[1:],
    b"\xa0" + bytes(PUBLIC_KEY_BYTES - 1),
    OUTSIDE_OF_THE_SUBGROUP,
    bytes.fromhex("9a" + FIELD[2:]),
    bytes.fromhex("9a" + FIELD[2:-1] + "a"),
    bytes.fromhex("3a" + FIELD[2:-1] + "a"),
    bytes.fromhex("fa" + FIELD[2:-1] + "a"),
    b"\xff" * PUBLIC_KEY_BYTES,
]

KEY = BeaconKey.from_seed(bytes(range(32)))
OTHER = BeaconKey.from_seed(b"o" * 32)
MESSAGE = b"m" * 32
SIGNATURE = KEY.sign(MESSAGE)


@pytest.mark.parametrize(("secret", "message", "signature"), VECTORS)
def test_published_vectors(secret: str, message: str, signature: str) -> None:
    key = BeaconKey(bytes.fromhex(secret))
    assert key.sign(bytes.fromhex(message)).hex() == signature
    assert verify(key.public_key, bytes.fromhex(message), bytes.fromhex(signature))


def test_an_independent_implementation_agrees() -> None:
    secret = int.from_bytes(KEY.secret, "big")
    assert G2MessageAugmentation.SkToPk(secret) == KEY.public_key
    assert G2MessageAugmentation.Sign(secret, MESSAGE) == SIGNATURE
    assert G2MessageAugmentation.Verify(KEY.public_key, MESSAGE, SIGNATURE)


def test_a_signature_is_of_one_key_and_one_message() -> None:
    assert len(KEY.public_key) == PUBLIC_KEY_BYTES
    assert len(SIGNATURE) == SIGNATURE_BYTES
    assert KEY.sign(MESSAGE) == SIGNATURE
    assert BeaconKey(KEY.secret).public_key == KEY.public_key
    assert verify(KEY.public_key, MESSAGE, SIGNATURE)
    assert not verify(KEY.public_key, MESSAGE + b"\0", SIGNATURE)
    assert not verify(OTHER.public_key, MESSAGE, SIGNATURE)
    assert not verify(KEY.public_key, MESSAGE, OTHER.sign(MESSAGE))


def test_every_changed_bit_is_noticed() -> None:
    for bit in range(8 * SIGNATURE_BYTES):
        changed = bytearray(SIGNATURE)
        changed[bit // 8] ^= 1 << bit % 8
        assert not verify(KEY.public_key, MESSAGE, bytes(changed)), bit
    for bit in range(8 * PUBLIC_KEY_BYTES):
        changed = bytearray(KEY.public_key)
        changed[bit // 8] ^= 1 << bit % 8
        assert not verify(bytes(changed), MESSAGE, SIGNATURE), bit


@pytest.mark.parametrize("public_key", NO_KEYS)
def test_what_is_no_key_verifies_nothing(public_key: bytes) -> None:
    assert not is_public_key(public_key)
    for signature in (SIGNATURE, INFINITY_SIGNATURE):
        assert not verify(public_key, MESSAGE, signature)
        assert not verify_possession(public_key, signature)


def test_the_curve_has_points_outside_of_the_subgroup_and_the_one_above_is_one() -> None:
    x, prime = 4, int(FIELD, 16)
    y_squared = (x**3 + 4) % prime
    assert pow(y_squared, (prime - 1) // 2, prime) == 1
    assert is_public_key(KEY.public_key)
    assert not is_public_key(OUTSIDE_OF_THE_SUBGROUP)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(SIGNATURE_BYTES),
        INFINITY_SIGNATURE,
        SIGNATURE[:-1],
        SIGNATURE + b"\0",
        b"\xff" * SIGNATURE_BYTES,
        bytes([SIGNATURE[0] ^ 0x20]) + SIGNATURE[1:],
    ],
)
def test_what_is_no_signature_is_refused(signature: bytes) -> None:
    assert not verify(KEY.public_key, MESSAGE, signature)
    assert not verify_possession(KEY.public_key, signature)


@given(st.binary(max_size=120), st.binary(max_size=120))
def test_rubbish_is_answered(one: bytes, two: bytes) -> None:
    assert not verify(one, MESSAGE, two)
    assert not verify(KEY.public_key, MESSAGE, two)
    assert not verify(one.ljust(PUBLIC_KEY_BYTES, b"\x80")[:PUBLIC_KEY_BYTES], MESSAGE, SIGNATURE)


def test_possession_is_proved_for_one_key_by_its_secret() -> None:
    proof = KEY.prove_possession()
    assert verify_possession(KEY.public_key, proof)
    assert not verify_possession(OTHER.public_key, proof)
    assert not verify_possession(KEY.public_key, KEY.sign(KEY.public_key))
    block = tagged_hash("omni/vrf/1", bytes(32), bytes(16), bytes(32))
    assert not verify_possession(KEY.public_key, KEY.sign(block))
    assert not verify(KEY.public_key, block, proof)


@pytest.mark.parametrize(
    "secret",
    [b"", bytes(31), bytes(32), bytes(33), GROUP_ORDER.to_bytes(32, "big"), b"\xff" * 32],
)
def test_what_is_no_secret_makes_no_key(secret: bytes) -> None:
    with pytest.raises(Malformed):
        BeaconKey(secret)


def test_a_short_seed_is_refused() -> None:
    with pytest.raises(Malformed):
        BeaconKey.from_seed(bytes(31))


def test_a_key_does_not_show_its_secret() -> None:
    assert KEY.secret.hex() not in repr(KEY)
    assert KEY.public_key.hex() in repr(KEY)


@pytest.mark.slow
def test_the_library_is_loaded_when_first_used() -> None:
    code = (
        "import sys, omninode.bls, omninode.dex.genesis; assert 'chia_rs' not in sys.modules; "
        "omninode.bls.is_public_key(bytes(48)); assert 'chia_rs' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
