from __future__ import annotations

from typing import Any

import pytest

from omninode.node.cli.status import PEER_COLUMNS, _peer_row

NOW_MS = 1_000_000


def _shown(**changes: Any) -> dict[str, object]:
    peer = {
        "peer_id": "12D3",
        "moniker": "other",
        "address": "/ip4/192.0.2.1/tcp/1",
        "connected": True,
        "direction": "inbound",
        "ping_ms": 1.5,
        "score": 0,
        "is_validator": False,
        "is_persistent": False,
        "connected_since_ms": 1,
        "last_error": "",
        "banned_until_ms": None,
        "ban_reason": "",
    }
    return dict(zip(PEER_COLUMNS, _peer_row(peer | changes, now_ms=NOW_MS), strict=True))


def test_a_connected_peer_is_shown_with_its_role() -> None:
    assert _shown()["state"] == "inbound"
    assert _shown()["role"] == "peer"
    assert _shown(is_persistent=True)["role"] == "named"
    assert _shown(is_persistent=True, is_validator=True)["role"] == "validator"


def test_one_that_left_is_shown_with_why() -> None:
    shown = _shown(connected=False, last_error="no answer to a ping")
    assert (shown["state"], shown["why"]) == ("away", "no answer to a ping")


@pytest.mark.parametrize(
    ("left_ms", "text"),
    [(1, "1 s"), (59_999, "60 s"), (600_000, "10 min"), (86_400_000, "24 h")],
)
def test_a_ban_is_shown_with_why_and_for_how_long(left_ms: int, text: str) -> None:
    shown = _shown(
        connected=False,
        score=-50,
        last_error="banned",
        banned_until_ms=NOW_MS + left_ms,
        ban_reason="oversized_frame: 2 GB",
    )
    assert (shown["state"], shown["why"]) == (f"banned for {text}", "oversized_frame: 2 GB")
