"""Scripts for the consensus core: `Script(core) >> event << effect`, and a small world to write
them in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from omninode.consensus import effects as out
from omninode.consensus import inputs as into
from omninode.consensus import messages as msg
from omninode.consensus.core import Core
from omninode.consensus.timing import Timing
from omninode.consensus.types import (
    PROTOCOL_VERSION,
    Block,
    Certificate,
    Header,
    Proposal,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
    VotesSeen,
    body_root,
    genesis_header,
    vote_digest,
    votes_seen_root,
)
from omninode.crypto import ZERO_HASH

N, X, F = VoteKind.NOTARIZE, VoteKind.NULLIFY, VoteKind.FINALIZE
GENESIS_HASH = b"scripted network".ljust(32, b".")
START_MS = 1_700_000_000_000
DELTA_MS = 100
TIMING = Timing(DELTA_MS, min_block_interval_ms=50, idle_block_interval_ms=2_000)
APP = [bytes((height,)) * 32 for height in range(200)]
"""The app hash of each height."""


class World:
    """A validator set, its blocks, votes and certificates. Block contents are numbers of
    transactions."""

    def __init__(
        self,
        powers: tuple[int, ...] = (1, 1, 1, 1),
        *,
        epoch: int = 0,
        beacon_keys: dict[int, bytes] | None = None,
    ) -> None:
        self.epoch = epoch
        keys = beacon_keys or {}
        self.validators = ValidatorSet(
            epoch,
            tuple(
                Validator(
                    bytes((i + 1,)) * 20,
                    bytes(33),
                    keys.get(i, b""),
                    f"peer{i}",
                    f"v{i}",
                    power,
                    power,
                )
                for i, power in enumerate(powers)
            ),
            seed=GENESIS_HASH,
        )
        self.genesis = genesis_header(
            GENESIS_HASH, time_ms=START_MS, app_hash=APP[0], valset_hash=self.validators.hash
        )
        self.count = len(powers)

    def core(self, me: int | None, **arguments: Any) -> Core:
        """Return a core that has not started."""
        return Core(
            genesis=self.genesis,
            validators=self.validators,
            me=me,
            signer=None if me is None else self.signer(me),
            timing=TIMING,
            **arguments,
        )

    def armed(self, me: int, **arguments: Any) -> Script:
        """Return a script on a core that has started and may vote."""
        script = Script(self.core(me, **arguments)) >> into.Start()
        for peer in range(self.count):
            if peer != me:
                script >> into.PeerMemory(peer, 1, ())
        assert script.core.is_armed
        return script

    def signer(self, index: int) -> Callable[[bytes], bytes]:
        return lambda digest: bytes((index,)) + digest + digest

    def led_by(self, index: int, *, at_least: int = 1) -> int:
        """Return the first view from `at_least` on that a validator leads."""
        core = self.core(None)
        return next(v for v in range(at_least, 10_000) if core.leader_of(v) == index)

    def leader(self, view: int) -> int:
        return self.core(None).leader_of(view)

    def others(self, *indices: int | None) -> list[int]:
        return [i for i in range(self.count) if i not in indices]

    def block(self, view: int, parent: Header | None = None, **fields: Any) -> Block:
        """Return a valid block of a view on a parent; `fields` change its header."""
        parent = parent or self.genesis
        ids: tuple[bytes, ...] = fields.pop("ids", ())
        votes_seen: tuple[VotesSeen, ...] = fields.pop("votes_seen", ())
        values: dict[str, Any] = {
            "version": PROTOCOL_VERSION,
            "genesis_hash": GENESIS_HASH,
            "epoch": self.epoch,
            "view": view,
            "height": parent.height + 1,
            "parent_hash": parent.hash,
            "parent_view": parent.view,
            "time_ms": parent.time_ms + 50,
            "proposer": self.leader(view),
            "body_root": body_root(ids),
            "evidence_root": ZERO_HASH,
            "votes_seen_root": votes_seen_root(votes_seen),
            "parent_beacon": parent.beacon,
            "beacon_proof": b"",
            "executed_height": parent.executed_height,
            "executed_final_view": parent.executed_final_view,
            "app_hash": parent.app_hash,
            "valset_hash": self.validators.hash,
        }
        return Block(Header(**(values | fields)), ids, votes_seen)

    def vote(self, kind: VoteKind, view: int, by: int, block: Block | None = None) -> Vote:
        block_hash = ZERO_HASH if block is None else block.hash
        digest = vote_digest(GENESIS_HASH, kind, epoch=self.epoch, view=view, block_hash=block_hash)
        return Vote(kind, self.epoch, view, block_hash, by, self.signer(by)(digest))

    def certificate(
        self,
        kind: VoteKind,
        view: int,
        block: Block | None = None,
        *,
        by: tuple[int, ...] = (0, 1, 2),
    ) -> Certificate:
        votes = [self.vote(kind, view, i, block) for i in by]
        return Certificate(
            kind, self.epoch, view, votes[0].block_hash, by, tuple(v.signature for v in votes)
        )

    def proposal(
        self, block: Block, parent: Certificate | None = None, *late: Vote
    ) -> into.PeerProposal:
        header = block.header
        vote = self.vote(N, header.view, header.proposer, block)
        return into.PeerProposal(header.proposer, Proposal(block, vote, parent, late))


class Script:
    """Feeds a core and compares what it wants done.

    `>>` steps the core; `<<` demands an effect among those not looked at yet and looks past it, so
    a chain of `<<` also says the order.
    """

    def __init__(self, core: Core, now_ms: int = START_MS) -> None:
        self.core = core
        self.now_ms = now_ms
        self.seen: list[out.Effect] = []
        self._at = 0

    def __rshift__(self, event: into.Input) -> Self:
        self.seen = self.core.step(event, now_ms=self.now_ms)
        self._at = 0
        return self

    def __lshift__(self, effect: out.Effect) -> Self:
        rest = self.seen[self._at :]
        assert effect in rest, f"{effect}\nis not in\n" + "\n".join(map(repr, rest))
        self._at += rest.index(effect) + 1
        return self

    def at(self, now_ms: int) -> Self:
        """Move the clock."""
        self.now_ms = now_ms
        return self

    def all(self, kind: type[Any]) -> list[Any]:
        """Return the last step's effects of a kind."""
        return [effect for effect in self.seen if isinstance(effect, kind)]

    def votes(self) -> list[Vote]:
        """Return the votes that the last step had written."""
        return [effect.vote for effect in self.all(out.WriteVote)]

    def sent(self, kind: type[Any]) -> list[Any]:
        """Return the messages of a kind that the last step sent."""
        return [e.message for e in self.all(out.Send) if isinstance(e.message, kind)]

    def fire(self, kind: msg.TimerKind) -> Self:
        """Fire a timer of the current view."""
        return self >> into.TimerFired(msg.TimerId(kind, self.core.view))
