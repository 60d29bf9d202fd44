from __future__ import annotations

import pytest

from omninode.node.cli.failures import FAILED, failure_of
from omninode.node.cli.rejections import HINTS, rejected
from omninode.node.rpc.reasons import MEANINGS


@pytest.mark.parametrize("reason", [*HINTS, "malformed", "a_new_reason"])
def test_a_rejection_says_what_to_do_next(reason: str) -> None:
    failure = failure_of(rejected("the order", reason, {"state": "rejected"}))
    assert (failure.code, failure.reason) == (FAILED, reason)
    assert failure.messages == (f"the order was rejected: {reason.replace('_', ' ')}",)
    assert failure.hint
    assert failure.extra == {"state": "rejected"}


def test_the_hints_are_for_reasons_that_there_are() -> None:
    assert HINTS.keys() <= MEANINGS.keys()
