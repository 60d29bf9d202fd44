from __future__ import annotations

from omninode.errors import PeerFault
from omninode.node.net.limits import (
    BAN_MAX_MS,
    BAN_MEMORY_MS,
    BAN_MS,
    BAN_VALIDATOR_MS,
    PEERS_REMEMBERED_MAX,
    SCORE_DISCONNECT,
)
from omninode.node.net.peers import Ban, PeerTable, Verdict

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


def _ban_again(table: PeerTable, at_ms: int) -> int:
    assert table.fault("p", _fault(200), now_ms=at_ms) is Verdict.BAN
    record = table.get("p")
    assert record is not None
    return record.banned_until_ms - at_ms


def test_each_further_ban_is_longer_until_the_peer_was_good_for_a_day() -> None:
    table = PeerTable(frozenset())
    at_ms, bans = NOW_MS, []
    for _ in range(5):
        bans.append(_ban_again(table, at_ms))
        at_ms += bans[-1]
    assert bans == [BAN_MS, 6 * BAN_MS, 36 * BAN_MS, BAN_MAX_MS, BAN_MAX_MS]
    assert _ban_again(table, at_ms + BAN_MEMORY_MS + 1) == BAN_MS


def test_bans_are_restored_with_their_reasons() -> None:
    table, again = PeerTable(frozenset()), PeerTable(frozenset())
    table.fault("p", PeerFault("rubbish", "again", penalty=200), now_ms=NOW_MS)
    (ban,) = table.bans(now_ms=NOW_MS)
    assert (ban.peer, ban.until_ms, ban.reason) == ("p", NOW_MS + BAN_MS, "rubbish: again")
    again.restore_ban(ban, now_ms=NOW_MS + 1)
    assert again.is_banned("p", now_ms=NOW_MS + 1)
    assert again.bans(now_ms=NOW_MS + 1) == [ban]
    assert not table.bans(now_ms=NOW_MS + BAN_MS)


def test_a_restored_ban_longer_than_any_means_nothing() -> None:
    table = PeerTable(frozenset())
    for until_ms in (NOW_MS, NOW_MS + BAN_MAX_MS + 1, 1 << 62):
        table.restore_ban(Ban("p", until_ms, "for ever", 1), now_ms=NOW_MS)
    assert not table.is_banned("p", now_ms=NOW_MS)


def test_who_becomes_a_validator_is_banned_like_one() -> None:
    table = PeerTable(frozenset())
    table.see("p", now_ms=NOW_MS)
    table.set_validators(frozenset({"p"}))
    assert table.is_guaranteed("p")
    assert _ban_again(table, NOW_MS) == BAN_VALIDATOR_MS
    table.set_validators(frozenset())
    assert not table.is_guaranteed("p")
