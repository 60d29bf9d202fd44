"""What validators ask the settlement chain for themselves, read from their `/metrics`.

A validator counts every call of an endpoint, those that it passes on for its clients too. It counts
the latter among the calls of its RPC interface as well; the difference is its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from omninode.errors import UserError
from omninode.node.rpc.forwarding import REFUSALS

ENDPOINT_CALLS: Final = "omninode_settlement_endpoint_calls_total"
RPC_CALLS: Final = "omninode_rpc_requests_total"
READ_TIMEOUT_S: Final = 20.0
"""Far above any answer of a validator that lives, on a machine that is busy."""


def own_calls(text: str) -> Counter[str]:
    """Return how often one validator has called each method for itself.

    Args:
        text: Its metrics, in Prometheus' text format.
    """
    asked: Counter[str] = Counter()
    passed_on: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            method = sample.labels.get("method", "")
            if sample.name == ENDPOINT_CALLS:
                asked[method] += int(sample.value)
            elif sample.name == RPC_CALLS and sample.labels["reason"] not in REFUSALS:
                passed_on[method] += int(sample.value)
    return asked - passed_on


async def read_own_calls(urls: Sequence[str]) -> Counter[str]:
    """Return the sum of `own_calls` over validators.

    Args:
        urls: Where Prometheus reads each of them.

    Raises:
        UserError: `no_answer`: one of them does not answer.
    """
    total: Counter[str] = Counter()
    async with httpx.AsyncClient(trust_env=False, timeout=READ_TIMEOUT_S) as client:
        for url in urls:
            try:
                response = await client.get(url)
                text = response.raise_for_status().text
            except httpx.HTTPError as error:
                raise UserError("no_answer", f"{url}: {type(error).__name__}") from None
            total += own_calls(text)
    return total
