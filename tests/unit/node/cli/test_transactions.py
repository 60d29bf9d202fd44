from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from omninode.node.cli.transactions import WAIT_MS, next_nonce

ACCOUNT = "0x1f9090aaE28b8a3dCeaDf281B0F12828e676c326"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_a_nonce_is_the_time_in_milliseconds(tmp_path: Path) -> None:
    before = now_ms()
    assert before <= next_nonce(tmp_path, ACCOUNT) <= now_ms()


def test_no_two_calls_get_the_same_nonce(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        nonces = list(pool.map(lambda _: next_nonce(tmp_path, ACCOUNT), range(200)))
    assert len(set(nonces)) == 200
    assert max(nonces) <= now_ms() + 200


def test_accounts_do_not_share_nonces(tmp_path: Path) -> None:
    next_nonce(tmp_path, ACCOUNT)
    other = "0x" + "11" * 20
    assert abs(next_nonce(tmp_path, other) - now_ms()) < 1_000
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("text", ["", "x", "-5", "9" * 20, "\xff"])
def test_a_damaged_memory_does_not_stop_the_account(tmp_path: Path, text: str) -> None:
    (tmp_path / f".nonce-{ACCOUNT.lower()}").write_text(text)
    assert abs(next_nonce(tmp_path, ACCOUNT) - now_ms()) < 1_000


def test_a_clock_that_was_ahead_does_not_block_the_account(tmp_path: Path) -> None:
    (tmp_path / f".nonce-{ACCOUNT.lower()}").write_text(str(now_ms() + 10 * WAIT_MS))
    assert abs(next_nonce(tmp_path, ACCOUNT) - now_ms()) < 1_000


def test_a_folder_that_can_not_be_written_costs_only_the_memory(tmp_path: Path) -> None:
    assert abs(next_nonce(tmp_path / "none", ACCOUNT) - now_ms()) < 1_000
