"""Deposits: which ones the validators have seen, and how many of them are credited.

Rules (PROTOCOL.md P9)
    D1. A deposit is known by the rolling hash after it, which covers everything before it. So one
        cursor (count, hash) names a whole log, and two hashes at one count are two different logs.
    D2. Every validator has one tip, the cursor it attested last; its power stands behind each
        deposit up to it. A new tip takes the place of the old one.
    D3. At the end of a block the deposits with > 2/3 of the power behind them are credited, in
        order. What is credited stays.
    D4. Two hashes at one count are a disagreement, told with the validators behind each. It does
        not hold up a hash that has > 2/3: less than a third of the power can not freeze deposits
        (ADR 008).
    D5. Between the credited cursor and the tips lie pending deposits; those that no tip stands on
        are forgotten. A tip is at most `PENDING_DEPOSITS_MAX` above the cursor.
    D6. A tip that contradicts what is credited is a stray: it stands behind nothing, and is
        remembered, with the count where it went astray, until its validator attests anew.

    D7. What validators ask of the contract about their stake stands in the same log, so
        "deposit" means either here: `Deposit` or `StakeChange`.

Kept apart from money: whoever credits gets the deposits from `settle`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import msgspec

from omninode.consensus.types import ValidatorSet
from omninode.dex.bridge.evm import deposit_hash, stake_hash
from omninode.dex.bridge.limits import IDENTITY_BYTES_MAX, PENDING_DEPOSITS_MAX
from omninode.encoding import AMOUNT_BYTES, amount_from_bytes
from omninode.errors import Rejected

_Address = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]
_Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_Amount = Annotated[bytes, msgspec.Meta(min_length=AMOUNT_BYTES, max_length=AMOUNT_BYTES)]
DepositCount = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


REGISTER: Final = 1
ADD_STAKE: Final = 2
UNSTAKE: Final = 3
EXIT: Final = 4
UNJAIL: Final = 5
STAKE_KINDS: Final = {
    REGISTER: "register",
    ADD_STAKE: "add",
    UNSTAKE: "remove",
    EXIT: "exit",
    UNJAIL: "unjail",
}
"""The kinds in words."""
_KINDS_WITH_AMOUNT: Final = (REGISTER, ADD_STAKE, UNSTAKE)
KINDS_WITH_MONEY: Final = (REGISTER, ADD_STAKE)
"""Entries of stake with which tokens came in."""


class Deposit(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """What the contract logged: `amount` is in the token's base units, 16 bytes."""

    token: _Address
    account: _Address
    subaccount: Annotated[int, msgspec.Meta(ge=0, le=2**16 - 1)]
    amount: _Amount


class StakeChange(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What an owner asked of the contract about its validator (D7).

    `kind` is one of `REGISTER` to `UNJAIL`; `amount` is in the stake token's base units, 16 bytes:
    what came in, or what is asked back. Only a registration has an `identity`.
    """

    owner: _Address
    kind: Annotated[int, msgspec.Meta(ge=REGISTER, le=UNJAIL)]
    amount: _Amount
    identity: Annotated[bytes, msgspec.Meta(max_length=IDENTITY_BYTES_MAX)]

    def __post_init__(self) -> None:
        """Refuse what the contract never logs."""
        if any(self.amount) is not (self.kind in _KINDS_WITH_AMOUNT):
            raise ValueError("only who registers, adds or removes names an amount")
        if bool(self.identity) is not (self.kind == REGISTER):
            raise ValueError("only who registers has an identity")


LogEntry: TypeAlias = Deposit | StakeChange
"""One entry of the contract's log (D7)."""


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """How many deposits there are and the rolling hash over all of them (D1)."""

    count: DepositCount
    hash: _Hash


class PendingDeposit(msgspec.Struct, frozen=True, array_like=True):
    """A deposit above the credited cursor; `index` counts from 0, `parent` is the hash before."""

    index: DepositCount
    parent: _Hash
    deposit: LogEntry


class Stray(msgspec.Struct, frozen=True, array_like=True):
    """Where a tip contradicts what is credited (D6): the hash after `index`, theirs and ours."""

    index: DepositCount
    hash: _Hash
    credited_hash: _Hash


class Tip(msgspec.Struct, frozen=True, array_like=True):
    """A validator's newest attestation."""

    count: DepositCount
    hash: _Hash
    stray: Stray | None = None


class Disagreement(msgspec.Struct, frozen=True, array_like=True):
    """Contradicting logs (D4): the first index that differs, and who stands behind which hash.

    Sides are ordered by power, the strongest first; addresses are in the order of the set.
    """

    index: DepositCount
    sides: tuple[tuple[_Hash, tuple[_Address, ...]], ...]


class CreditableDeposit(msgspec.Struct, frozen=True):
    """A deposit that has its quorum."""

    index: int
    deposit: LogEntry


def next_deposit_hash(previous: bytes, index: int, deposit: LogEntry) -> bytes:
    """Return the rolling hash after a deposit (D1, D7); the first previous is the genesis hash."""
    if isinstance(deposit, StakeChange):
        return stake_hash(
            previous,
            index,
            owner=deposit.owner,
            kind=deposit.kind,
            amount=amount_from_bytes(deposit.amount),
            identity=deposit.identity,
        )
    return deposit_hash(
        previous,
        index,
        token=deposit.token,
        account=deposit.account,
        subaccount=deposit.subaccount,
        amount=amount_from_bytes(deposit.amount),
    )


class Deposits:
    """The credited cursor, the tips and the pending deposits between them.

    Args:
        genesis_hash: The hash before the first deposit.

    Attributes:
        credited: What is credited.
        disagreements: All contradictions after the last block, by index (D4).
        new_disagreements: Those that the last `settle` found first, or with other dissenters.
        changed_nodes: Pending deposits that came or went (None) since the last `clear`, by hash.
        changed_tips: Tips that changed since then, by validator.
        cursor_changed: Whether the credited cursor did.
    """

    def __init__(self, genesis_hash: bytes) -> None:
        self.credited = Cursor(0, genesis_hash)
        self.disagreements: tuple[Disagreement, ...] = ()
        self.changed_nodes: dict[bytes, PendingDeposit | None] = {}
        self.changed_tips: dict[bytes, Tip | None] = {}
        self.cursor_changed = False
        self.nodes: Final[dict[bytes, PendingDeposit]] = {}
        self.tips: Final[dict[bytes, Tip]] = {}
        self.new_disagreements: tuple[Disagreement, ...] = ()
        self._unsettled = True
        self._settled_for: ValidatorSet | None = None

    @property
    def disagreement(self) -> Disagreement | None:
        """The first contradiction, or None."""
        return self.disagreements[0] if self.disagreements else None

    def tip(self, address: bytes) -> Cursor | None:
        """Return what a validator attested last, or None."""
        tip = self.tips.get(address)
        return None if tip is None else Cursor(tip.count, tip.hash)

    def knows(self, count: int, cursor_hash: bytes) -> bool:
        """Whether a cursor is the credited one or that of a pending deposit."""
        if count == self.credited.count:
            return cursor_hash == self.credited.hash
        node = self.nodes.get(cursor_hash)
        return node is not None and node.index + 1 == count

    def attest(
        self, validator: bytes, end: Cursor, *, parent: bytes, deposits: Sequence[LogEntry]
    ) -> None:
        """Take a validator's attestation (D2): `deposits` follow `parent` and end at `end`.

        Raises:
            Rejected: `stale_attestation` (below what is credited), `too_far_ahead`,
                `unknown_parent`, `wrong_hash`.
        """
        credited = self.credited
        start = end.count - len(deposits)
        if end.count < credited.count:
            raise Rejected("stale_attestation", f"{credited.count} deposits are credited")
        if end.count > credited.count + PENDING_DEPOSITS_MAX:  # D5
            raise Rejected(
                "too_far_ahead", f"at most {PENDING_DEPOSITS_MAX} above the {credited.count}"
            )
        if start > credited.count and not self.knows(start, parent):
            raise Rejected("unknown_parent", f"no deposit {start - 1} with that hash is pending")
        chain = _fold(start, parent, deposits)
        if chain and chain[-1][0] != end.hash:
            raise Rejected("wrong_hash", "the deposits do not lead from the parent to the hash")
        below = credited.count - start
        at_credited = credited.hash
        if below >= 0:
            at_credited = chain[below - 1][0] if below else parent
        stray = None
        if at_credited != credited.hash:
            if not credited.count:
                raise Rejected("unknown_parent", "the first deposit follows the genesis hash")
            stray = Stray(credited.count - 1, at_credited, credited.hash)  # D6
        else:
            for node_hash, node in chain[max(0, below) :]:
                if node_hash not in self.nodes:
                    self.nodes[node_hash] = node
                    self.changed_nodes[node_hash] = node
        self._set_tip(validator, Tip(end.count, end.hash, stray))
        self._unsettled = True

    def settle(self, validator_set: ValidatorSet) -> list[CreditableDeposit]:
        """Advance the cursor over what has its quorum (D3); called at the end of every block.

        Returns:
            What to credit, in order. `new_disagreements` has what is to be told.
        """
        self.new_disagreements = ()
        if not self._unsettled and validator_set is self._settled_for:
            return []
        self._unsettled, self._settled_for = False, validator_set
        powers = {validator.address: validator.power for validator in validator_set.validators}
        for address in [a for a in self.tips if a not in powers]:
            self._set_tip(address, None)
        children = self._children(powers)
        path = [self.credited.hash]
        while True:
            sides = children.get(path[-1], {})
            winner = next((h for h, power in sides.items() if validator_set.is_quorum(power)), None)
            if winner is None:
                break
            path.append(winner)
        creditable = self._advance(path) if len(path) > 1 else []
        self._prune()
        told = {_essence(disagreement) for disagreement in self.disagreements}
        self.disagreements = self._find_disagreements(powers)
        self.new_disagreements = tuple(d for d in self.disagreements if _essence(d) not in told)
        return creditable

    def load(
        self, credited: Cursor | None, nodes: dict[bytes, PendingDeposit], tips: dict[bytes, Tip]
    ) -> None:
        """Take back stored records; `settle` then finds the disagreements again."""
        self.credited = credited or self.credited
        self.nodes.update(nodes)
        self.tips.update(tips)

    def clear(self) -> None:
        """Forget what changed; it was taken."""
        self.changed_nodes.clear()
        self.changed_tips.clear()
        self.cursor_changed = False

    def _set_tip(self, validator: bytes, tip: Tip | None) -> None:
        if tip is None:
            del self.tips[validator]
        else:
            self.tips[validator] = tip
        self.changed_tips[validator] = tip

    def _path(self, tip: Tip) -> Iterator[bytes]:
        """Yield the pending deposits that a tip stands on, the newest first; none for a stray."""
        node_hash = tip.hash
        node = None if tip.stray else self.nodes.get(node_hash)
        while node is not None:
            yield node_hash
            node_hash = node.parent
            node = self.nodes.get(node_hash)

    def _children(self, powers: dict[bytes, int]) -> dict[bytes, dict[bytes, int]]:
        """Return by parent the pending deposits with the power behind each (D2)."""
        children: dict[bytes, dict[bytes, int]] = {}
        for address, tip in self.tips.items():
            power = powers[address]
            for node_hash in self._path(tip):
                sides = children.setdefault(self.nodes[node_hash].parent, {})
                sides[node_hash] = sides.get(node_hash, 0) + power
        return children

    def _advance(self, path: list[bytes]) -> list[CreditableDeposit]:
        """Move the cursor along a path, whose first hash is the cursor's, and mark the strays."""
        following = dict(pairwise(path))
        for address, tip in list(self.tips.items()):
            astray = None
            for node_hash in self._path(tip):
                if node_hash in following or node_hash == path[-1]:
                    break
                astray = node_hash
            if astray is not None:
                node = self.nodes[astray]
                expected = following.get(node.parent)
                if expected is not None:  # None: it stands on the new cursor
                    stray = Stray(node.index, astray, expected)
                    self._set_tip(address, Tip(tip.count, tip.hash, stray))
        credited = []
        for node_hash in path[1:]:
            node = self.nodes[node_hash]
            credited.append(CreditableDeposit(node.index, node.deposit))
            self._forget(node_hash)
        self.credited = Cursor(credited[-1].index + 1, path[-1])
        self.cursor_changed = True
        return credited

    def _prune(self) -> None:
        """Forget the deposits that no tip stands on (D5)."""
        kept: set[bytes] = set()
        for tip in self.tips.values():
            for node_hash in self._path(tip):
                if node_hash in kept:
                    break
                kept.add(node_hash)
        for node_hash in [h for h in self.nodes if h not in kept]:
            self._forget(node_hash)

    def _forget(self, node_hash: bytes) -> None:
        del self.nodes[node_hash]
        if self.changed_nodes.get(node_hash) is None:
            self.changed_nodes[node_hash] = None
        else:  # it came since the last `clear`: nobody has a record of it
            del self.changed_nodes[node_hash]

    def _find_disagreements(self, powers: dict[bytes, int]) -> tuple[Disagreement, ...]:
        """Return where tips contradict what is credited, then each other (D4)."""
        sides: dict[int, dict[bytes, list[bytes]]] = {}
        strays = [tip.stray for tip in self.tips.values() if tip.stray is not None]
        for stray in strays:
            found = sides.setdefault(stray.index, {})
            found[stray.hash] = []
            found[stray.credited_hash] = []
        for fork in self._children(powers).values():
            if len(fork) > 1:
                index = self.nodes[next(iter(fork))].index
                sides.setdefault(index, {}).update((node_hash, []) for node_hash in fork)
        if not sides:
            return ()
        credited = {stray.index: stray.credited_hash for stray in strays}
        for address in powers:
            if address in self.tips:
                self._take_side(address, self.tips[address], sides, credited)
        return tuple(Disagreement(index, _ordered(sides[index], powers)) for index in sorted(sides))

    def _take_side(
        self,
        address: bytes,
        tip: Tip,
        sides: dict[int, dict[bytes, list[bytes]]],
        credited: dict[int, bytes],
    ) -> None:
        """Add a validator to the side it is on at each index where there are sides."""
        if tip.stray is not None:
            sides[tip.stray.index][tip.stray.hash].append(address)
            return
        for index, credited_hash in credited.items():
            if index < tip.count:
                sides[index][credited_hash].append(address)
        for node_hash in self._path(tip):
            found = sides.get(self.nodes[node_hash].index)
            if found is not None and node_hash in found:
                found[node_hash].append(address)


def _fold(
    start: int, parent: bytes, deposits: Sequence[LogEntry]
) -> list[tuple[bytes, PendingDeposit]]:
    """Return the deposits that follow a parent, each with the hash after it."""
    chain = []
    for index, deposit in enumerate(deposits, start):
        node = PendingDeposit(index, parent, deposit)
        parent = next_deposit_hash(parent, index, deposit)
        chain.append((parent, node))
    return chain


def _ordered(
    sides: dict[bytes, list[bytes]], powers: dict[bytes, int]
) -> tuple[tuple[bytes, tuple[bytes, ...]], ...]:
    """Order the sides by power, the strongest first, and by hash where that is equal."""
    weighed = [
        (-sum(powers[address] for address in addresses), side_hash, tuple(addresses))
        for side_hash, addresses in sides.items()
    ]
    return tuple((side_hash, addresses) for _, side_hash, addresses in sorted(weighed))


def _essence(disagreement: Disagreement) -> object:
    """Return what is worth telling again: not that the strongest side grew."""
    strongest, *others = disagreement.sides
    return disagreement.index, strongest[0], tuple(others)
