"""Write `transactions.json`: golden transactions that fix the wire format and both signatures.

Run it only when the format changes on purpose, with a new `TRANSACTION_VERSION`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omninode.crypto import SigningKey
from omninode.dex.action_json import action_from_json, action_to_json
from omninode.dex.actions import Action, AttestDeposits, SignCheckpoint, SignHandover
from omninode.dex.bridge.deposits import Deposit, StakeChange
from omninode.dex.eip712 import Domain
from omninode.dex.transaction import Transaction, order_id, sign_agent, sign_validator, sign_wallet

WALLET = SigningKey(bytes(31) + b"\x01")
AGENT = SigningKey(bytes(31) + b"\x02")
GENESIS_HASH = bytes(range(32))
CHAIN_ID = 31337
HEAD: dict[str, Any] = {"account": "0x" + WALLET.address.hex(), "nonce": 1_700_000_000_000}
OTHER = "0x" + "11" * 20
ITEM = {"market": "BTC-USDC", "side": "buy", "size": "0.1", "price": "78000.25"}
CANCEL = {"order_id": "0x" + "ab" * 32}
REPLACE = {"market": "BTC-USDC", "client_id": "c-1", "size": "0.2", "price": "78001"}

CASES: dict[str, dict[str, Any]] = {
    "commit sealed": {
        "type": "commit_sealed",
        "subaccount": 3,
        "market": "BTC-USDC",
        "bond": "16.5",
        "commitment": "0x" + "c0" * 32,
    },
    "reveal sealed": {
        "type": "reveal_sealed",
        "commit": "0x" + "ab" * 32,
        "order": ITEM,
        "salt": "0x" + "5a" * 32,
    },
    "limit": {"type": "place_order", **ITEM},
    "limit full": {
        "type": "place_order",
        **ITEM,
        "subaccount": 7,
        "side": "sell",
        "post_only": True,
        "client_id": "4f5c",
    },
    "market": {
        "type": "place_order",
        "market": "ETH-USDC",
        "side": "sell",
        "size": "1",
        "order_type": "market",
        "tif": "fok",
        "slippage_ppm": 1234,
    },
    "cancel by order id": {"type": "cancel_order", **CANCEL},
    "cancel by client id": {"type": "cancel_order", "client_id": "c-1", "subaccount": 2},
    "cancel all": {"type": "cancel_all"},
    "cancel all in one market": {"type": "cancel_all", "market": "BTC-USDC"},
    "replace": {"type": "replace_order", **REPLACE},
    "transfer": {
        "type": "transfer",
        "to": OTHER,
        "to_subaccount": 1,
        "asset": "USDC",
        "amount": "2.5",
    },
    "approve agent": {
        "type": "approve_agent",
        "agent": "0x" + AGENT.address.hex(),
        "name": "bot 1",
        "permissions": ["trade", "cancel", "transfer"],
        "expires_ms": 1_700_000_600_000,
    },
    "revoke agent": {"type": "revoke_agent", "agent": "0x" + AGENT.address.hex()},
    "withdraw": {
        "type": "withdraw",
        "subaccount": 3,
        "asset": "USDC",
        "amount": "2.5",
        "recipient": OTHER,
    },
    "batch": {
        "type": "batch",
        "cancels": [CANCEL],
        "replaces": [REPLACE],
        "orders": [ITEM, {**ITEM, "side": "sell", "tif": "ioc"}],
    },
}

WORDS: dict[str, Action] = {
    "attest deposits": AttestDeposits(
        bytes(32), 7, b"\xcd" * 32, (Deposit(b"\x11" * 20, b"\x22" * 20, 3, bytes(15) + b"\x05"),)
    ),
    "attest stake": AttestDeposits(
        bytes(32),
        9,
        b"\xcd" * 32,
        (
            StakeChange(b"\x33" * 20, 1, bytes(15) + b"\x07", b"\x44" * 40),
            StakeChange(b"\x33" * 20, 4, bytes(16), b""),
        ),
    ),
    "attest what is known": AttestDeposits(b"\xcd" * 32, 7, b"\xcd" * 32, ()),
    "sign checkpoint": SignCheckpoint(9, bytes(range(65))),
    "sign handover": SignHandover(4, bytes(range(65))),
}
"""What validators say; `WALLET` signs as the vote key."""


def _outcome(transaction: Transaction) -> dict[str, str]:
    return {
        "raw": "0x" + transaction.raw.hex(),
        "hash": "0x" + transaction.hash.hex(),
        "order_id_1": "0x" + order_id(transaction.hash, 1).hex(),
    }


def vectors() -> dict[str, Any]:
    """Return the whole document."""
    domain = Domain(CHAIN_ID, GENESIS_HASH)
    cases = []
    for name, fields in CASES.items():
        account, nonce, action = action_from_json({**fields, **HEAD})
        by_agent = sign_agent(AGENT, action, account=account, nonce=nonce, domain=domain)
        cases.append(
            {
                "name": name,
                "action": action_to_json(account, nonce, action),
                "wallet": _outcome(sign_wallet(WALLET, action, nonce=nonce, domain=domain)),
                "agent": _outcome(by_agent),
            }
        )
    words = []
    for name, action in WORDS.items():
        signed = sign_validator(WALLET, action, nonce=HEAD["nonce"], domain=domain)
        words.append(
            {
                "name": name,
                "action": action_to_json(WALLET.address, HEAD["nonce"], action),
                "raw": "0x" + signed.raw.hex(),
                "hash": "0x" + signed.hash.hex(),
            }
        )
    return {
        "source": "tests/vectors/make_transactions.py",
        "chain_id": CHAIN_ID,
        "genesis_hash": "0x" + GENESIS_HASH.hex(),
        "wallet_secret": "0x" + WALLET.secret.hex(),
        "agent_secret": "0x" + AGENT.secret.hex(),
        "cases": cases,
        "validators": words,
    }


if __name__ == "__main__":
    target = Path(__file__).with_name("transactions.json")
    target.write_text(json.dumps(vectors(), indent=1) + "\n")
