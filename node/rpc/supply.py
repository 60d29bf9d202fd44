"""The sum of all balances beside what it came from, without stopping the exchange for long.

Rules
    U1. Adding up everybody's balances takes a fifth of a second with 100,000 accounts, in which no
        block is executed. So at most a `SUPPLY_SHARE` of the time goes into it: until then the
        answer before is given again. It is true for the height that it names.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import trio

from omninode.dex.exchange import Exchange
from omninode.dex.views import supply_view
from omninode.node.rpc.limits import SUPPLY_SHARE


class SupplyReader:
    """Adds up the balances of one exchange (U1)."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._newest: dict[str, Any] = {}
        self._good_until_s = 0.0

    def read(self) -> dict[str, Any]:
        """Return the answer of `omni_getSupply`."""
        now_s = trio.current_time()
        if not self._newest or now_s >= self._good_until_s:
            started_s = perf_counter()
            self._newest = supply_view(self._exchange)
            self._good_until_s = now_s + (perf_counter() - started_s) / SUPPLY_SHARE
        return self._newest
