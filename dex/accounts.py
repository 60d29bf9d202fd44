"""Balances: what every subaccount owns, free and held by its open orders.

Rules
    C1. A balance is two non-negative integers in base units; `free + held` is what is owned.
    C2. Whoever changes a balance calls `touch` first, so that each changed record is written once
        per block and conservation is checked on exactly what changed (PROTOCOL.md P4).
    C3. A balance of zero and a missing one are the same: its record is deleted.

Compiled by mypyc where that is asked for: plain classes, no dynamic attributes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omninode.dex.book import Order


class Balance:
    """One subaccount's amount of one asset (C1); `key` is its record key without prefix.

    `leaf` is its index in the balance tree of `bridge.balance_tree`, -1 while it has none.
    """

    __slots__ = ("asset", "before", "dirty", "free", "held", "key", "leaf")

    def __init__(self, key: bytes, asset: int) -> None:
        self.key = key
        self.asset = asset
        self.free = 0
        self.held = 0
        self.dirty = False
        self.before = 0
        self.leaf = -1


class Owner:
    """An address: what its subaccounts share."""

    __slots__ = ("address", "open_orders", "subaccounts")

    def __init__(self, address: bytes) -> None:
        self.address = address
        self.open_orders = 0
        self.subaccounts: dict[int, Account] = {}


class Account:
    """One subaccount: its balances by asset index, its open orders by order id and by client id."""

    __slots__ = ("balances", "by_client_id", "key", "orders", "owner", "subaccount")

    def __init__(self, owner: Owner, subaccount: int) -> None:
        self.owner = owner
        self.subaccount = subaccount
        self.key: bytes = owner.address + subaccount.to_bytes(2, "big")
        self.balances: dict[int, Balance] = {}
        self.orders: dict[bytes, Order] = {}
        self.by_client_id: dict[str, Order] = {}

    def balance(self, asset: int) -> Balance:
        """Return the balance of an asset, an empty one if there is none yet."""
        balance = self.balances.get(asset)
        if balance is None:
            balance = Balance(self.key + asset.to_bytes(2, "big"), asset)
            self.balances[asset] = balance
        return balance

    def free(self, asset: int) -> int:
        """Return what may be spent of an asset."""
        balance = self.balances.get(asset)
        return 0 if balance is None else balance.free


class Accounts:
    """All accounts, and which balances changed since the last `clear`."""

    __slots__ = ("dirty", "owners")

    def __init__(self) -> None:
        self.owners: dict[bytes, Owner] = {}
        self.dirty: list[Balance] = []

    def account(self, address: bytes, subaccount: int) -> Account:
        """Return a subaccount, an empty one if nobody has used it yet."""
        owner = self.owners.get(address)
        if owner is None:
            owner = Owner(address)
            self.owners[address] = owner
        account = owner.subaccounts.get(subaccount)
        if account is None:
            account = Account(owner, subaccount)
            owner.subaccounts[subaccount] = account
        return account

    def find(self, address: bytes, subaccount: int) -> Account | None:
        """Return a subaccount if it was ever used; reading must not create one."""
        owner = self.owners.get(address)
        return None if owner is None else owner.subaccounts.get(subaccount)

    def touch(self, balance: Balance) -> None:
        """Note that a balance is about to change (C2)."""
        if not balance.dirty:
            balance.dirty = True
            balance.before = balance.free + balance.held
            self.dirty.append(balance)

    def hold(self, balance: Balance, amount: int) -> None:
        """Move an amount from free to held."""
        assert 0 <= amount <= balance.free
        self.touch(balance)
        balance.free -= amount
        balance.held += amount

    def release(self, balance: Balance, amount: int) -> None:
        """Move an amount from held to free."""
        assert 0 <= amount <= balance.held
        self.touch(balance)
        balance.held -= amount
        balance.free += amount

    def credit(self, balance: Balance, amount: int) -> None:
        """Add to what is free."""
        assert amount >= 0
        self.touch(balance)
        balance.free += amount

    def debit(self, balance: Balance, amount: int) -> None:
        """Take from what is free."""
        assert 0 <= amount <= balance.free
        self.touch(balance)
        balance.free -= amount

    def spend(self, balance: Balance, amount: int) -> None:
        """Take from what is held."""
        assert 0 <= amount <= balance.held
        self.touch(balance)
        balance.held -= amount

    def clear(self) -> None:
        """Forget which balances changed; their records were taken."""
        for balance in self.dirty:
            balance.dirty = False
        self.dirty = []
