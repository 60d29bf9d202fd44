"""A chain, and hands to sign for it and to make its blocks."""

from __future__ import annotations

from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from omninode.contracts.devchain.blocks import Block
from omninode.contracts.devchain.chain import Chain, Genesis, Step
from omninode.contracts.devchain.store import Store
from omninode.contracts.devchain.transactions import Transaction, decode_transaction

CHAIN_ID = 31337
GWEI = 10**9
COINS = 10**24
NOW_S = 1_700_000_000

ALICE: LocalAccount = Account.from_key("0x" + "a1" * 32)
BOB: LocalAccount = Account.from_key("0x" + "b0" * 32)


def signed(account: LocalAccount, nonce: int, **fields: Any) -> Transaction:
    """Return a signed transaction; a transfer of 1 wei unless told otherwise."""
    transaction: dict[str, Any] = {
        "chainId": CHAIN_ID,
        "nonce": nonce,
        "to": "0x" + "77" * 20,
        "value": 1,
        "gas": 21_000,
        "maxFeePerGas": 10 * GWEI,
        "maxPriorityFeePerGas": GWEI,
        **fields,
    }
    told = {name: value for name, value in transaction.items() if value is not None}
    return decode_transaction(bytes(account.sign_transaction(told).raw_transaction))


def address_of(account: LocalAccount) -> bytes:
    return bytes.fromhex(account.address[2:])


class Bench:
    """A chain under test."""

    def __init__(self, store: Store, genesis: Genesis) -> None:
        self.store = store
        self.genesis = genesis
        self.chain = Chain.open(store, genesis)

    def reopen(self) -> None:
        """Go on from what is on the disk."""
        self.chain = Chain.open(self.store, self.genesis)

    def take(self, *transactions: Transaction) -> None:
        """Take transactions in, as the miner does."""
        chain = self.chain
        for item in transactions:
            replaced = chain.pool.check(
                item, nonce=chain.nonce(item.sender), balance=chain.balance(item.sender)
            )
            arrival = chain.pool.next_arrival
            chain.journal(item, replaced)
            chain.pool.add(item, arrival=arrival)

    def mine(self, timestamp: int = NOW_S) -> Step:
        """Make a block."""
        candidates, stale = self.chain.candidates()
        step = self.chain.extend(candidates, stale, timestamp=timestamp)
        self.chain.adopt(step)
        return step

    def run(self, *transactions: Transaction) -> Block:
        """Take transactions in and make a block with them."""
        self.take(*transactions)
        return self.mine().head
