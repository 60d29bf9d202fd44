"""What becomes of a transaction that its validator took to the grave."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from omninode.crypto import SigningKey
from omninode.dex.actions import CancelAll
from omninode.dex.eip712 import Domain
from omninode.errors import UserError
from omninode.node.devnet.change import Change
from omninode.node.devnet.flow import Request
from omninode.node.devnet.sender import Sender
from omninode.node.devnet.tracker import Tracker

WINDOW_MS = 30_000


class Validator:
    """Acknowledges everything and then knows of nothing."""

    ready = True

    def __init__(self) -> None:
        self.chain_time_ms = 0
        self.taken = 0

    def post(self, method: str, params: Any, on_answer: Any) -> None:
        assert method == "omni_sendTransaction", params
        self.taken += 1
        on_answer({}, None)

    async def call(self, method: str, params: Any = None) -> dict[str, Any]:
        await trio.lowlevel.checkpoint()
        if method == "omni_status":
            return {"block_time_ms": self.chain_time_ms}
        raise UserError("unknown_transaction", str(params))


async def test_it_is_sent_again_while_it_counts_and_has_expired_after(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = 1_000_000
    monkeypatch.setattr("omninode.node.devnet.sender._now_ms", lambda: now_ms)
    change = Change()
    tracker = Tracker(on_settled=change.tell)
    validator: Any = Validator()
    sender = Sender(
        [validator],
        tracker,
        change,
        keys={"alice": SigningKey(b"\x01" * 32)},
        domain=Domain(31337, bytes(32)),
        nonce_window_ms=WINDOW_MS,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.follow_up)
        request = Request("alice", CancelAll(0, ""), 1)
        identifier = await sender.send(request, measured=False)
        await trio.sleep(10)
        assert validator.taken > 1
        now_ms += WINDOW_MS + 1
        validator.chain_time_ms = 1_000_000 + WINDOW_MS  # the last moment at which it may count
        await trio.sleep(10)
        assert identifier in tracker.pending
        validator.chain_time_ms += 1
        with trio.fail_after(60):
            await sender.settled([identifier])
        assert sender.unmeasured_expired == 1
        nursery.cancel_scope.cancel()
