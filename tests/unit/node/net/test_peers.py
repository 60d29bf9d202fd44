from __future__ import annotations

from omninode.errors import PeerFault
from omninode.node.net.limits import (
    BAN_MS,
    BAN_VALIDATOR_MS,
    PEERS_REMEMBERED_MAX,
    SCORE_DISCONNECT,
)
from omninode.node.net.peers import PeerTable, Verdict

NOW_MS = 1_000_000


def _fault(penalty: int) -> PeerFault:
    return PeerFault("test", penalty=penalty)


def test_faults_add_up_to_a_disconnect_and_then_a_ban() -> None:
    table = PeerTable(frozenset())
    assert table.fault("p", _fault(30), now_ms=NOW_MS) is Verdict.KEEP
    assert table.fault("p", _fault(30), now_ms=NOW_MS) is Verdict.DISCONNECT
    assert not table.is_banned("p", now_ms=NOW_MS)
    assert table.fault("p", _fault(40), now_ms=NOW_MS) is Verdict.BAN
    assert table.is_banned("p", now_ms=NOW_MS + BAN_MS - 1)
    assert not table.is_banned("p", now_ms=NOW_MS + BAN_MS)


def test_a_score_recovers_to_zero_and_never_above() -> None:
    table = PeerTable(frozenset())
    table.fault("p", _fault(30), now_ms=NOW_MS)
    assert table.score("p", now_ms=NOW_MS) == -30
    assert table.score("p", now_ms=NOW_MS + 60_000) == -20
    assert table.score("p", now_ms=NOW_MS + 6_000_000) == 0
    assert table.score("nobody", now_ms=NOW_MS) == 0


def test_time_that_goes_backwards_takes_nothing_away() -> None:
    table = PeerTable(frozenset())
    table.fault("p", _fault(30), now_ms=NOW_MS)
    assert table.score("p", now_ms=NOW_MS - 1_000_000) == -30


def test_a_negative_penalty_is_no_reward() -> None:
    table = PeerTable(frozenset())
    table.fault("p", _fault(30), now_ms=NOW_MS)
    table.fault("p", _fault(-100), now_ms=NOW_MS)
    assert table.score("p", now_ms=NOW_MS) == -30


def test_a_validator_is_banned_briefly() -> None:
    table = PeerTable(frozenset({"v"}))
    assert table.fault("v", _fault(200), now_ms=NOW_MS) is Verdict.BAN
    assert table.is_banned("v", now_ms=NOW_MS + BAN_VALIDATOR_MS - 1)
    assert not table.is_banned("v", now_ms=NOW_MS + BAN_VALIDATOR_MS)


def test_after_a_ban_the_score_starts_low_and_recovers_from_there() -> None:
    table = PeerTable(frozenset())
    table.fault("p", _fault(200), now_ms=NOW_MS)
    assert table.score("p", now_ms=NOW_MS + BAN_MS) == SCORE_DISCONNECT
    assert table.score("p", now_ms=NOW_MS + BAN_MS + 60_000) == SCORE_DISCONNECT + 10


def test_a_full_table_forgets_the_stranger_seen_longest_ago() -> None:
    table = PeerTable(frozenset({"validator"}))
    table.see("validator", now_ms=0)
    table.keep("persistent", "/ip4/127.0.0.1/tcp/1")
    table.see("connected", now_ms=0).connected_since_ms = 1
    table.fault("banned", _fault(200), now_ms=NOW_MS)
    for number in range(PEERS_REMEMBERED_MAX + 10):
        table.see(f"stranger{number}", now_ms=NOW_MS + 1 + number)
    assert len(table) == PEERS_REMEMBERED_MAX
    assert all(table.get(p) for p in ("validator", "persistent", "connected", "banned"))
    assert table.get("stranger0") is None
    assert table.get(f"stranger{PEERS_REMEMBERED_MAX + 9}") is not None


def test_addresses_are_few_and_different() -> None:
    table = PeerTable(frozenset())
    table.see("p", now_ms=0)
    for number in [*range(20), 0]:
        table.add_address("p", f"/ip4/127.0.0.1/tcp/{number}")
    record = table.get("p")
    assert record is not None
    assert record.addresses == [f"/ip4/127.0.0.1/tcp/{number}" for number in range(8)]


def test_a_fault_that_costs_nothing_has_no_consequence() -> None:
    table = PeerTable(frozenset())
    assert table.fault("p", _fault(60), now_ms=NOW_MS) is Verdict.DISCONNECT
    assert table.fault("p", _fault(0), now_ms=NOW_MS) is Verdict.KEEP
