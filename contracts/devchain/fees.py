"""What gas costs: suggestions, and the history of fees."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from omninode.contracts.devchain.blocks import Block
from omninode.contracts.devchain.build import next_base_fee
from omninode.contracts.devchain.chain import Chain
from omninode.contracts.devchain.limits import FEE_HISTORY_BLOCKS_MAX, FEE_PERCENTILES_MAX
from omninode.contracts.devchain.quantities import quantity
from omninode.contracts.devchain.refusals import invalid
from omninode.contracts.devchain.views import Json

SUGGESTED_TIP: Final = 10**9
"""Wei for a unit of gas."""


def read_percentiles(given: object) -> list[float]:
    """Read the percentiles of `eth_feeHistory`.

    Raises:
        CallRefused: They are not numbers from 0 to 100 in rising order, or too many.
    """
    if given is None:
        return []
    if not isinstance(given, list) or len(given) > FEE_PERCENTILES_MAX:
        raise invalid(2, f"an array of at most {FEE_PERCENTILES_MAX} percentiles is wanted")
    for item in given:
        if isinstance(item, bool) or not isinstance(item, int | float) or not 0 <= item <= 100:
            raise invalid(2, "a percentile is a number from 0 to 100")
    if any(before >= after for before, after in pairwise(given)):
        raise invalid(2, "percentiles must rise")
    return [float(item) for item in given]


def fee_history(chain: Chain, count: int, newest: Block, percentiles: list[float]) -> Json:
    """Return base fees, use and tips of `count` blocks up to `newest`."""
    count = min(count, FEE_HISTORY_BLOCKS_MAX, newest.number + 1)
    found = (chain.block_at(number) for number in range(newest.number + 1 - count, newest.number))
    blocks = [block for block in found if block is not None]
    if count:
        blocks.append(newest)
    oldest = blocks[0].number if blocks else newest.number
    fees = [block.base_fee for block in blocks]
    history: Json = {
        "oldestBlock": quantity(oldest),
        "baseFeePerGas": [quantity(fee) for fee in (*fees, next_base_fee(newest.header))],
        "gasUsedRatio": [block.header.gas_used / block.header.gas_limit for block in blocks],
        "baseFeePerBlobGas": ["0x1"] * (len(blocks) + 1),
        "blobGasUsedRatio": [0] * len(blocks),
    }
    if percentiles:
        history["reward"] = [_tips(block, percentiles) for block in blocks]
    return history


def _tips(block: Block, percentiles: list[float]) -> list[str]:
    """Return the tips at the percentiles of a block's gas, cheapest first."""
    base_fee = block.base_fee
    paid = sorted(
        (item.tip(base_fee), record.gas_used)
        for item, record in zip(block.transactions, block.records, strict=True)
    )
    if not paid:
        return ["0x0"] * len(percentiles)
    tips, position, gas = [], 0, paid[0][1]
    for percentile in percentiles:
        threshold = block.header.gas_used * percentile / 100
        while gas < threshold and position < len(paid) - 1:
            position += 1
            gas += paid[position][1]
        tips.append(quantity(paid[position][0]))
    return tips
