"""Write `settlement/*.json`: what contract, follower and state machine must all compute alike.

Nothing here comes from OmniNode: typed data and signatures are eth-account's, encodings eth-abi's,
and a tree is split from the top at the largest power of two, where ours grows from the leaves.
The formats are for good, so run it only to add cases.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_keys.datatypes import PrivateKey
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

FOLDER = Path(__file__).parent / "settlement"

GENESIS_HASH = bytes(range(32))
CHAIN_ID = 31337
CONTRACT = to_checksum_address("0x" + "c0" * 20)
SECRETS = [keccak(text=f"validator {i}") for i in range(7)]
TOKENS = [to_checksum_address(keccak(text=f"token {i}")[12:]) for i in range(3)]
ACCOUNTS = [to_checksum_address(keccak(text=f"account {i}")[12:]) for i in range(4)]
AMOUNTS = (1, 1_000_000, 10**18, 2**64, 2**128 - 1)

DOMAIN_TYPE = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]
FIELDS = [
    ("number", "uint64"),
    ("epoch", "uint64"),
    ("height", "uint64"),
    ("timeMs", "uint64"),
    ("stateRoot", "bytes32"),
    ("withdrawalRoot", "bytes32"),
    ("withdrawalCount", "uint64"),
    ("feeRoot", "bytes32"),
    ("depositCount", "uint64"),
    ("depositHash", "bytes32"),
]
HANDOVER = [("epoch", "uint64"), ("nextEpoch", "uint64"), ("nextSetHash", "bytes32")]


def text(value: bytes) -> str:
    return "0x" + value.hex()


def digest_of(
    kind: str,
    fields: list[tuple[str, str]],
    values: dict[str, Any],
    contract: str = CONTRACT,
) -> bytes:
    document = {
        "types": {
            "EIP712Domain": DOMAIN_TYPE,
            kind: [
                {"name": name, "type": abi} for name, abi in [("genesisHash", "bytes32"), *fields]
            ],
        },
        "primaryType": kind,
        "domain": {
            "name": "OmniNode Settlement",
            "version": "1",
            "chainId": CHAIN_ID,
            "verifyingContract": contract,
        },
        "message": {"genesisHash": GENESIS_HASH, **values},
    }
    message = encode_typed_data(full_message=document)
    return keccak(b"\x19" + message.version + message.header + message.body)


def signatures(digest: bytes) -> list[dict[str, str]]:
    """Sign by every validator, as `r | s | v` of 65 bytes and in EIP-2098's 64."""
    made = []
    for secret in SECRETS:
        signed = PrivateKey(secret).sign_msg_hash(digest)
        folded = signed.s | signed.v << 255
        made.append(
            {
                "signer": signed.recover_public_key_from_msg_hash(digest).to_checksum_address(),
                "signature": text(signed.to_bytes()[:64] + bytes((27 + signed.v,))),
                "compact": text(signed.r.to_bytes(32) + folded.to_bytes(32)),
            }
        )
    return made


def plain(values: dict[str, Any]) -> dict[str, Any]:
    return {k: text(v) if isinstance(v, bytes) else v for k, v in values.items()}


def digests() -> dict[str, Any]:
    checkpoints: list[dict[str, Any]] = [
        {
            "number": 1,
            "epoch": 0,
            "height": 1,
            "timeMs": 1_700_000_000_000,
            "stateRoot": bytes(32),
            "withdrawalRoot": bytes(32),
            "withdrawalCount": 0,
            "feeRoot": bytes(32),
            "depositCount": 0,
            "depositHash": GENESIS_HASH,
        },
        {
            "number": 257,
            "epoch": 3,
            "height": 987_654_321,
            "timeMs": 1_800_000_000_123,
            "stateRoot": keccak(b"state"),
            "withdrawalRoot": keccak(b"withdrawals"),
            "withdrawalCount": 4_000,
            "feeRoot": keccak(b"fees"),
            "depositCount": 77,
            "depositHash": keccak(b"deposits"),
        },
        {
            "number": 2**64 - 1,
            "epoch": 2**64 - 1,
            "height": 2**64 - 1,
            "timeMs": 2**64 - 1,
            "stateRoot": b"\xff" * 32,
            "withdrawalRoot": b"\xfe" * 32,
            "withdrawalCount": 2**64 - 1,
            "feeRoot": b"\xfd" * 32,
            "depositCount": 2**64 - 1,
            "depositHash": b"\xfc" * 32,
        },
    ]
    handover = {"epoch": 3, "nextEpoch": 5, "nextSetHash": keccak(b"next set")}
    cases = []
    for values in checkpoints:
        digest = digest_of("Checkpoint", FIELDS, values)
        commitment = keccak(encode([abi for _, abi in FIELDS], [values[n] for n, _ in FIELDS]))
        cases.append(
            {
                **plain(values),
                "digest": text(digest),
                "commitment": text(commitment),
                "signatures": signatures(digest),
            }
        )
    digest = digest_of("Handover", HANDOVER, handover)
    return {
        "chain_id": CHAIN_ID,
        "contract": CONTRACT,
        "genesis_hash": text(GENESIS_HASH),
        "secrets": [text(secret) for secret in SECRETS],
        "checkpoints": cases,
        "handovers": [
            {**plain(handover), "digest": text(digest), "signatures": signatures(digest)}
        ],
    }


def validator_sets() -> list[dict[str, Any]]:
    addresses = [Account.from_key(secret).address for secret in SECRETS]
    cases = []
    for epoch, powers in ((0, []), (0, [1]), (1, [1, 1, 1, 1]), (2**64 - 1, [5, 0, 2**96 - 1, 7])):
        words = [
            int(address, 16).to_bytes(20) + power.to_bytes(12)
            for address, power in zip(addresses, powers, strict=False)
        ]
        cases.append(
            {
                "epoch": epoch,
                "validators": [
                    {"address": address, "power": str(power)}
                    for address, power in zip(addresses, powers, strict=False)
                ],
                "words": [text(word) for word in words],
                "hash": text(keccak(encode(["uint64", "bytes32[]"], [epoch, words]))),
            }
        )
    return cases


def deposits() -> dict[str, Any]:
    before, chain = GENESIS_HASH, []
    types = ["bytes32", "uint64", "address", "address", "uint16", "uint256"]
    for index in range(12):
        token, account = TOKENS[index % 3], ACCOUNTS[index % 4]
        subaccount, amount = (0, 1, 999)[index % 3], AMOUNTS[index % 5]
        before = keccak(encode(types, [before, index, token, account, subaccount, amount]))
        chain.append(
            {
                "index": index,
                "token": token,
                "account": account,
                "subaccount": subaccount,
                "amount": str(amount),
                "hash": text(before),
            }
        )
    return {"genesis_hash": text(GENESIS_HASH), "deposits": chain, "stake": stake(before)}


def stake(before: bytes) -> list[dict[str, Any]]:
    """Entries of stake that follow the deposits, every kind of them."""
    chain = []
    types = ["bytes32", "uint64", "bytes32", "address", "uint8", "uint256", "bytes32"]
    for place in range(6):
        index, owner, kind = 12 + place, ACCOUNTS[place % 4], (1, 2, 3, 4, 5, 1)[place]
        amount = AMOUNTS[place % 5] if kind < 4 else 0
        identity = (b"\x01", b"", b"", b"", b"", b"\xff" * 512)[place]
        fields = [before, index, keccak(b"stake"), owner, kind, amount, keccak(identity)]
        before = keccak(encode(types, fields))
        chain.append(
            {
                "index": index,
                "owner": owner,
                "kind": kind,
                "amount": str(amount),
                "identity": text(identity),
                "hash": text(before),
            }
        )
    return chain


def twice(types: list[str], values: list[Any]) -> str:
    return text(keccak(keccak(encode(types, values))))


def leaves() -> dict[str, Any]:
    made: dict[str, Any] = {"withdrawal": [], "state": [], "fee": []}
    for i, amount in enumerate(AMOUNTS):
        index, token, account = (0, 1, 2**32, 5, 2**64 - 1)[i], TOKENS[i % 3], ACCOUNTS[i % 4]
        subaccount = (0, 7, 999, 0, 1)[i]
        common = {"index": index, "token": token, "amount": str(amount)}
        made["withdrawal"].append(
            {
                **common,
                "recipient": account,
                "leaf": twice(
                    ["uint64", "address", "address", "uint256"], [index, token, account, amount]
                ),
            }
        )
        made["state"].append(
            {
                **common,
                "account": account,
                "subaccount": subaccount,
                "leaf": twice(
                    ["uint64", "address", "uint16", "address", "uint256"],
                    [index, account, subaccount, token, amount],
                ),
            }
        )
        made["fee"].append(
            {
                **common,
                "recipient": account,
                "leaf": twice(
                    ["uint64", "address", "address", "uint256"], [index, account, token, amount]
                ),
            }
        )
    return made


def node(a: bytes, b: bytes) -> bytes:
    return keccak(min(a, b) + max(a, b))


def split(count: int) -> int:
    return 1 << (count - 1).bit_length() - 1


def root_of(tree: list[bytes]) -> bytes:
    if len(tree) <= 1:
        return tree[0] if tree else bytes(32)
    half = split(len(tree))
    return node(root_of(tree[:half]), root_of(tree[half:]))


def proof_of(tree: list[bytes], index: int) -> list[bytes]:
    if len(tree) == 1:
        return []
    half = split(len(tree))
    if index < half:
        return [*proof_of(tree[:half], index), root_of(tree[half:])]
    return [*proof_of(tree[half:], index - half), root_of(tree[:half])]


def trees() -> dict[str, Any]:
    """Trees over the leaves keccak256(uint256(0)), keccak256(uint256(1)), ..."""
    cases = []
    for count in (*range(18), 31, 32, 33, 100, 127):
        tree = [keccak(i.to_bytes(32)) for i in range(count)]
        shown = range(count) if count < 18 else sorted({0, 1, count // 2, count - 2, count - 1})
        cases.append(
            {
                "count": count,
                "root": text(root_of(tree)),
                "proofs": [
                    {"index": i, "proof": [text(n) for n in proof_of(tree, i)]} for i in shown
                ],
            }
        )
    return {"leaf": "keccak256(uint256(index))", "trees": cases}


def main() -> None:
    """Write the files."""
    FOLDER.mkdir(exist_ok=True)
    for name, content in (
        ("digests", digests()),
        ("validator_sets", validator_sets()),
        ("deposits", deposits()),
        ("leaves", leaves()),
        ("trees", trees()),
    ):
        (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
