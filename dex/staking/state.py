"""The state behind module `staking`, and the money of a stake.

Rules
    M1. A bonded stake is the owner's balance in subaccount 1,000, an unbonding one that in 1,001.
        No action can name either, so nothing else moves them; both stand in the balance tree.
    M2. Stake comes in as a deposit does and goes out as a withdrawal does; what a slash takes goes
        to the treasury. Nothing is made or lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from omninode.dex.bridge.limits import SETTLEMENT_VALIDATORS_MAX
from omninode.dex.staking.audits import Audits
from omninode.dex.staking.convictions import Convictions
from omninode.dex.staking.epochs import Epochs
from omninode.dex.staking.limits import REGISTERED_MAX
from omninode.dex.staking.registry import ACTIVE, CANDIDATE, STAKING, Member, Registry
from omninode.dex.staking.tallies import Tallies
from omninode.dex.staking.terms import StakingTerms, staking_terms
from omninode.dex.staking.unbonding import Unbondings

if TYPE_CHECKING:
    from omninode.dex.accounts import Accounts, Balance
    from omninode.dex.genesis import Genesis

BONDED: Final = 1_000
UNBONDING_PART: Final = 1_001
"""Subaccounts that no action can name (M1)."""


class Staking:
    """Everything about validators but the current set, which is the exchange's.

    Args:
        genesis: For the terms and the first validators.
        accounts: Where stakes are balances.

    Attributes:
        terms: None without staking: then nothing here ever changes.
        time_ms: The present block's time.
        tallies_changed: Whether `tallies` changed since it was last taken.
    """

    def __init__(self, genesis: Genesis, accounts: Accounts) -> None:
        most = REGISTERED_MAX if genesis.settlement is None else SETTLEMENT_VALIDATORS_MAX
        self.terms: Final[StakingTerms | None] = staking_terms(genesis, most)
        self.registry: Final = Registry()
        self.unbondings: Final = Unbondings()
        self.epochs: Final = Epochs(genesis.genesis_time_ms)
        self.audits: Final = Audits()
        self.convictions: Final = Convictions()
        self.tallies: Final = Tallies(genesis.validator_set)
        self.tallies_changed = False
        self.time_ms = genesis.genesis_time_ms
        self._accounts = accounts

    @property
    def is_on(self) -> bool:
        """Whether the network has staking, and so epochs."""
        return self.terms is not None

    def add_first(self, members: Iterable[Member]) -> None:
        """Take in the validators of genesis."""
        for member in members:
            member.status, member.is_synced = ACTIVE, True
            self.registry.add(member)

    def balance(self, owner: bytes, subaccount: int) -> Balance:
        """Return an owner's balance of the stake's asset."""
        assert self.terms is not None
        return self._accounts.account(owner, subaccount).balance(self.terms.asset)

    def stake(self, owner: bytes) -> int:
        """Return what an owner has bonded, in base units (M1)."""
        return self._owned(owner, BONDED)

    def unbonding(self, owner: bytes) -> int:
        """Return what of an owner's stake is on its way back."""
        return self._owned(owner, UNBONDING_PART)

    def _owned(self, owner: bytes, subaccount: int) -> int:
        account = self._accounts.find(owner, subaccount)
        return 0 if account is None or self.terms is None else account.free(self.terms.asset)

    def is_candidate(self, address: bytes) -> bool:
        """Whether the owner of this vote key has registered and waits to join the set."""
        member = self.registry.by_address(address)
        return member is not None and member.status == CANDIDATE

    def capped(self) -> list[Member]:
        """Return those whose stake counts for the cap on a single one."""
        return [member for member in self.registry if member.status in STAKING]

    def begin_unbonding(self, owner: bytes, amount: int) -> None:
        """Move a bonded amount to its way back."""
        assert self.terms is not None
        self._accounts.debit(self.balance(owner, BONDED), amount)
        self._accounts.credit(self.balance(owner, UNBONDING_PART), amount)
        self.unbondings.add(owner, amount, self.time_ms + self.terms.unbonding_ms)

    def take(self, owner: bytes, amount: int) -> None:
        """Give a part of a stake to the treasury, of what is bonded first (M2)."""
        assert self.terms is not None
        bonded = min(amount, self.stake(owner))
        self._accounts.debit(self.balance(owner, BONDED), bonded)
        if amount > bonded:
            self._accounts.debit(self.balance(owner, UNBONDING_PART), amount - bonded)
            self.unbondings.take(owner, amount - bonded)
        self._accounts.credit(self.balance(self.terms.treasury, 0), amount)
