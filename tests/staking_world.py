"""An exchange with staking and its epochs, driven block by block as a chain would.

The chain of this world is honest about what consensus would guarantee: views go up, a sealing block
follows the cut, and `present` says whose votes each block shows. `conftest.py` files load this
module by its path, after `exchange_world`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from exchange_world import Log, World, make_genesis, make_settled_genesis
from omninode.consensus.types import ValidatorSet, Vote, VoteKind, VotesSeen, vote_digest
from omninode.crypto import ZERO_HASH, SigningKey, checksum_address, keccak256
from omninode.dex.actions import Action
from omninode.dex.bridge.deposits import StakeChange
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    EpochParams,
    Genesis,
    GenesisBalance,
    GenesisStaking,
    GenesisValidator,
)
from omninode.dex.invariants import check_state
from omninode.dex.outcomes import BlockInput, BlockOutcome
from omninode.dex.staking.identity import sign_identity
from omninode.dex.staking.registry import Member
from omninode.dex.transaction import Transaction
from omninode.encoding import amount_to_bytes

UNIT = 10**18
EPOCH_MS = 3_000
BLOCKS_MIN = 10
UNBONDING_MS = 20_000
POWER = 10_000
RESERVE = keccak256(b"reserve")[-20:]
OWNERS = tuple(keccak256(b"owner %d" % n)[-20:] for n in range(12))
NEWCOMER = SigningKey(keccak256(b"newcomer"))


def make_staked_genesis(
    powers: Sequence[int] = (POWER,) * 4,
    *,
    settled: bool = False,
    staking: dict[str, Any] | None = None,
    **changes: Any,
) -> Genesis:
    """Build a genesis with staking: `powers` XOM staked by `OWNERS`, a funded reserve."""
    keys = [SigningKey(keccak256(b"validator %d" % n)) for n in range(len(powers))]
    terms: dict[str, Any] = {
        "minimum": "1000",
        "unbonding_ms": UNBONDING_MS,
        "reserve": checksum_address(RESERVE),
    }
    reserve = GenesisBalance(address=checksum_address(RESERVE), asset="XOM", amount="1000000")
    sections: dict[str, Any] = {
        "validators": tuple(
            GenesisValidator(
                moniker=f"node{n}",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id=f"peer{n}",
                power=power,
                owner=checksum_address(keccak256(b"owner %d" % n)[-20:]),
            )
            for n, (key, power) in enumerate(zip(keys, powers, strict=True))
        ),
        "staking": GenesisStaking(**(terms | (staking or {}))),
        "epochs": EpochParams(epoch_ms=EPOCH_MS, min_epoch_blocks=BLOCKS_MIN),
        "balances": (*make_genesis().balances, reserve),
    }
    make = make_settled_genesis if settled else make_genesis
    return make(**(sections | changes))


class StakedWorld(World):
    """An exchange with staking, and the little of a chain that it needs.

    Attributes:
        present: Indices whose votes each block shows; all while it is None.
        outcome: The last block's.
        absent_leaders: Indices that never lead: their views end without a block.
    """

    def __init__(self, genesis: Genesis | None = None) -> None:
        super().__init__(genesis or make_staked_genesis())
        self.present: Collection[int] | None = None
        self.absent_leaders: Collection[int] = ()
        self.view = 0
        self.outcome: BlockOutcome | None = None
        self.log = Log(self.exchange.rules.hash)
        self._shown: tuple[VotesSeen, ...] = ()
        self._is_sealing = False

    @property
    def set(self) -> ValidatorSet:
        return self.exchange.state.validator_set

    @property
    def number(self) -> int:
        return self.exchange.state.epochs.number

    def apply(self, *transactions: Transaction, after_ms: int = 100) -> BlockOutcome:
        """Apply the next block of the chain, with everybody's votes for the one before."""
        exchange, parent_view = self.exchange, self.view
        schedule = exchange.state.staking.tallies.schedule
        self.view += 1
        while schedule.leader(self.view) in self.absent_leaders:
            self.view += 1
        seals, self._is_sealing = self._is_sealing, False
        outcome = exchange.apply(
            BlockInput(
                exchange.height + 1,
                exchange.time_ms + after_ms,
                self.seed,
                transactions,
                epoch=self.number,
                view=self.view,
                parent_view=parent_view,
                proposer=schedule.leader(self.view),
                votes_seen=self._shown,
                beacon=keccak256(b"beacon %d" % exchange.height),
                seals=seals,
            )
        )
        self._is_sealing = outcome.cut is not None
        signers = range(len(self.set.validators)) if self.present is None else self.present
        bits = sum(1 << index for index in signers)
        width = (len(self.set.validators) + 7) // 8
        seen = VotesSeen(self.view, bits.to_bytes(width, "little"))
        self._shown = () if seals else (seen,)
        for key, value in outcome.writes.items():
            if value is None:
                self.database.pop(key, None)
            else:
                self.database[key] = value
        self.events, self.outcome = outcome.events, outcome
        check_state(exchange.state, exchange._supply)
        return outcome

    def run_to_epoch(self, number: int) -> list[Any]:
        """Make blocks until an epoch begins; returns all events on the way."""
        events: list[Any] = []
        while self.number < number:
            events += self.apply().events
        return events

    def stake_of(self, owner: bytes) -> tuple[int, int]:
        """Return what an owner has bonded and unbonding, in whole units."""
        staking = self.exchange.state.staking
        return staking.stake(owner) // UNIT, staking.unbonding(owner) // UNIT

    def member(self, owner: bytes) -> Member:
        return self.exchange.state.staking.registry.members[owner]

    def bring(self, *changes: StakeChange) -> BlockOutcome:
        """Have all validators attest entries of stake, which credits them."""
        start = len(self.log.deposits)
        for change in changes:
            self.log.add(change)
        action = self.log.attestation(start)
        keys = [validator.address for validator in self.set.validators]
        return self.apply(*(self.transaction(address, action) for address in keys))

    def say(self, address: bytes, action: Action) -> tuple[str, str]:
        """Make a validator's statement; returns the result's code and reason."""
        result = self.do(address, action)
        return result.code, result.reason

    def load(self) -> Exchange:
        """Load a second exchange from the database, and compare."""
        other = self.reload()
        if self.database:
            assert dict(other.records()) == self.database
        return other


def change(kind: int, owner: bytes, amount: int = 0, identity: bytes = b"") -> StakeChange:
    """Build an entry of stake; `amount` in whole units."""
    return StakeChange(owner, kind, amount_to_bytes(amount * UNIT), identity)


def identity_of(
    world: StakedWorld, owner: bytes, key: SigningKey = NEWCOMER, **fields: Any
) -> bytes:
    """Build an honest identity for a registration."""
    values: dict[str, Any] = {"peer_id": "QmNewcomer", "moniker": "newcomer"}
    genesis_hash = world.exchange.rules.hash
    return sign_identity(key, owner=owner, genesis_hash=genesis_hash, **(values | fields))


def vote(
    world: StakedWorld, key: SigningKey, kind: VoteKind, block: bytes = b"", *, view: int = 5
) -> Vote:
    """Sign a vote for a block named by any bytes; none for a nullification."""
    block_hash = keccak256(block) if block else ZERO_HASH
    digest = vote_digest(world.exchange.rules.hash, kind, epoch=0, view=view, block_hash=block_hash)
    return Vote(kind, 0, view, block_hash, 0, key.sign(digest))
