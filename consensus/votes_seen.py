"""Which votes a block shows of its ancestors, and why a voter believes it (consensus.md §3.2).

Rules
    W1. A block shows who notarized or finalized its newest `VOTES_SEEN_MAX` ancestors of its epoch;
        nobody is shown twice for the same ancestor in one chain.
    W2. Entries name ancestors by view, ascending. A bitmap names somebody, nobody beyond the set,
        and does not end in a zero byte, so there is one way only to say a thing.
    W3. The signers of the parent's certificate in the proposal justify what is said of the parent.
        Everything else is justified by a late vote beside the block; none of them is idle.
    W4. A block that is notarized is believed: a quorum has judged it.

A bitmap is the integer with bit `i` for validator `i`, little end first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from omninode.consensus.types import (
    LATE_VOTES_MAX,
    Block,
    Certificate,
    Header,
    Proposal,
    Vote,
    VoteKind,
    VotesSeen,
)

Ancestry = Sequence[Block]
"""The newest ancestors of a block in its epoch, newest first."""


def mask_of(validators: Iterable[int]) -> int:
    """Return the bitmap of some validators."""
    mask = 0
    for validator in validators:
        mask |= 1 << validator
    return mask


def members_of(mask: int) -> list[int]:
    """Return the validators in a bitmap, ascending."""
    members = []
    while mask:
        lowest = mask & -mask
        members.append(lowest.bit_length() - 1)
        mask ^= lowest
    return members


def mask_in(entry: VotesSeen) -> int:
    """Return the bitmap of an entry."""
    return int.from_bytes(entry.signers, "little")


def shown_in(ancestry: Ancestry) -> dict[int, int]:
    """Return whom these blocks show already, by view (W1)."""
    shown: dict[int, int] = {}
    for block in ancestry:
        for entry in block.votes_seen:
            shown[entry.view] = shown.get(entry.view, 0) | mask_in(entry)
    return shown


def gather(
    ancestry: Ancestry, parent_certificate: Certificate | None, known: Callable[[Header], int]
) -> tuple[VotesSeen, ...]:
    """Return what a new block shows (W1).

    Args:
        ancestry: Its ancestors.
        parent_certificate: What its proposal will carry.
        known: Returns the bitmap of those whose votes for a block are held.
    """
    shown = shown_in(ancestry)
    room = LATE_VOTES_MAX
    found: dict[int, int] = {}
    for number, block in enumerate(ancestry):
        header = block.header
        free = _signers(parent_certificate, header) if number == 0 else 0
        late = known(header) & ~free & ~shown.get(header.view, 0)
        if late.bit_count() > room:
            late = 0
        room -= late.bit_count()
        found[header.view] = late | (free & ~shown.get(header.view, 0))
    return entries(found)


def entries(masks: Mapping[int, int]) -> tuple[VotesSeen, ...]:
    """Return bitmaps by view as a block says them (W2)."""
    return tuple(
        VotesSeen(view, mask.to_bytes((mask.bit_length() + 7) // 8, "little"))
        for view, mask in sorted(masks.items())
        if mask
    )


def unproven(
    block: Block, parent: Header, parent_certificate: Certificate | None
) -> list[tuple[int, int]]:
    """Return what of a block's claims needs a late vote: (view, validator) (W3)."""
    free = _signers(parent_certificate, parent)
    return [
        (entry.view, validator)
        for entry in block.votes_seen
        for validator in members_of(mask_in(entry) & ~(free if entry.view == parent.view else 0))
    ]


def is_justified(proposal: Proposal, parent: Header, ancestry: Ancestry, *, count: int) -> bool:
    """Judge what a proposal shows; the signatures of its late votes are checked already (W1-W3).

    Args:
        proposal: The proposal.
        parent: The block's parent.
        ancestry: Its ancestors.
        count: How many validators the set has.
    """
    block = proposal.block
    hashes = {ancestor.header.view: ancestor.hash for ancestor in ancestry}
    shown = shown_in(ancestry)
    last_view = -1
    for entry in block.votes_seen:
        mask = mask_in(entry)
        if (
            entry.view <= last_view
            or entry.view not in hashes
            or entry.signers[-1] == 0
            or mask.bit_length() > count
            or mask & shown.get(entry.view, 0)
        ):
            return False
        last_view = entry.view
    proven = {
        (vote.view, vote.validator) for vote in proposal.late_votes if _proves(vote, block, hashes)
    }
    return len(proven) == len(proposal.late_votes) and proven == set(
        unproven(block, parent, proposal.parent_certificate)
    )


def _proves(vote: Vote, block: Block, hashes: Mapping[int, bytes]) -> bool:
    return (
        vote.kind is not VoteKind.NULLIFY
        and vote.epoch == block.header.epoch
        and hashes.get(vote.view) == vote.block_hash
    )


def _signers(certificate: Certificate | None, header: Header) -> int:
    """Return the bitmap of a certificate's signers, if it is for this block."""
    if certificate is None or certificate.block_hash != header.hash:
        return 0
    return mask_of(certificate.signers)
