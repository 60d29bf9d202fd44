"""What a transaction of ours offers for gas, and what an endpoint's refusal of it means.

Rules
    G1. An endpoint's wish is bounded: it can not make this node pay more than `TIP_MAX_WEI` a unit
        of gas above the base fee, which the chain itself sets.
    G2. A replacement offers a quarter more than what it replaces; nodes ask for a tenth or an
        eighth. At `FEE_MAX_WEI` it ends.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GWEI: Final = 10**9
TIP_DEFAULT_WEI: Final = GWEI
TIP_MAX_WEI: Final = 50 * GWEI
FEE_MAX_WEI: Final = 5_000 * GWEI

ACCEPTED: Final = "accepted"
NONCE_USED: Final = "nonce_used"
UNDERPRICED: Final = "underpriced"
NO_FUNDS: Final = "no_funds"
REFUSED: Final = "refused"

# Clients word their refusals differently; these words are common to geth, reth, Nethermind, Besu,
# Erigon and anvil.
_MEANINGS: Final = (
    (ACCEPTED, ("already known", "known transaction", "already imported", "alreadyknown")),
    (NONCE_USED, ("nonce too low", "nonce is too low", "old nonce", "invalid nonce")),
    (UNDERPRICED, ("underpriced", "fee too low", "less than block base fee", "feecap", "fee cap")),
    (NO_FUNDS, ("insufficient funds", "insufficient balance", "enough funds", "gas required exce")),
)


@dataclass(frozen=True, slots=True)
class Fee:
    """What one unit of gas may cost, in wei: in all, and above the base fee."""

    max_fee: int
    tip: int


def meaning(refusal: str) -> str:
    """Return what an endpoint's words about a sent transaction mean."""
    words = refusal.lower()
    for what, phrases in _MEANINGS:
        if any(phrase in words for phrase in phrases):
            return what
    return REFUSED


def first_fee(base_fee: int, wished_tip: int | None) -> Fee:
    """Return the fee of a first attempt: good for six full blocks in a row (G1)."""
    tip = TIP_DEFAULT_WEI if wished_tip is None else min(wished_tip, TIP_MAX_WEI)
    return Fee(min(2 * base_fee + tip, FEE_MAX_WEI), min(tip, FEE_MAX_WEI))


def raised_fee(old: Fee, now: Fee) -> Fee | None:
    """Return the fee of a replacement (G2), or `None` when it would pass the limit."""
    max_fee = max(now.max_fee, old.max_fee + old.max_fee // 4 + 1)
    tip = max(now.tip, old.tip + old.tip // 4 + 1)
    if max_fee > FEE_MAX_WEI or tip > TIP_MAX_WEI:
        return None
    return Fee(max(max_fee, tip), tip)
