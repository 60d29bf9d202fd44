"""Session keys (agents): who may act for an account, in what, and until when.

Rules
    S1. Authority is keyed (account, agent). Only the account's own wallet key approves and revokes.
    S2. An approval has permissions and an expiry in block time; at that time it is over.
    S3. An agent trades, cancels and moves funds among its own account's subaccounts, each if
        permitted. It never withdraws and never pays others (PROTOCOL.md P4).
    S4. Approving a known agent changes its approval. Expired approvals make room for new ones.
"""

from __future__ import annotations

from omninode.dex.actions import ApproveAgent
from omninode.dex.limits import AGENTS_PER_ACCOUNT_MAX
from omninode.dex.stored import AgentRecord
from omninode.errors import Rejected


class Agents:
    """All approvals; `changed` has this block's new record (or None) by (account, agent)."""

    def __init__(self) -> None:
        self.changed: dict[tuple[bytes, bytes], AgentRecord | None] = {}
        self._agents: dict[bytes, dict[bytes, AgentRecord]] = {}

    def find(self, account: bytes, agent: bytes, time_ms: int) -> AgentRecord | None:
        """Return an approval that holds at this time (S2)."""
        record = self._agents.get(account, {}).get(agent)
        return record if record is not None and time_ms < record.expires_ms else None

    def of_account(self, account: bytes) -> dict[bytes, AgentRecord]:
        """Return all approvals of an account, expired ones included, by agent."""
        return dict(self._agents.get(account, {}))

    def approve(self, account: bytes, action: ApproveAgent, time_ms: int) -> None:
        """Approve a session key.

        Raises:
            Rejected: `invalid_agent` (the account itself), `expired`, `too_many_agents`.
        """
        if action.agent == account:
            raise Rejected("invalid_agent", "an account needs no approval of itself")
        if action.expires_ms <= time_ms:
            raise Rejected(
                "expired", f"the approval would end at {action.expires_ms}, now {time_ms}"
            )
        mine = self._agents.get(account, {})
        expired = [agent for agent, record in mine.items() if record.expires_ms <= time_ms]  # S4
        left = len(mine) - len(expired) - (action.agent in mine and action.agent not in expired)
        if left >= AGENTS_PER_ACCOUNT_MAX:
            raise Rejected("too_many_agents", f"at most {AGENTS_PER_ACCOUNT_MAX}: revoke one first")
        for agent in expired:
            self._remove(account, agent)
        record = AgentRecord(action.name, action.permissions, action.expires_ms)
        self._agents.setdefault(account, {})[action.agent] = record
        self.changed[account, action.agent] = record

    def revoke(self, account: bytes, agent: bytes) -> None:
        """Take an approval back.

        Raises:
            Rejected: `unknown_agent`.
        """
        if agent not in self._agents.get(account, {}):
            raise Rejected("unknown_agent", f"0x{agent.hex()} is not approved")
        self._remove(account, agent)

    def _remove(self, account: bytes, agent: bytes) -> None:
        mine = self._agents[account]
        del mine[agent]
        if not mine:
            del self._agents[account]
        self.changed[account, agent] = None

    def load(self, account: bytes, agent: bytes, record: AgentRecord) -> None:
        """Take back a stored record."""
        self._agents.setdefault(account, {})[agent] = record

    def records(self) -> list[tuple[bytes, bytes, AgentRecord]]:
        """Return every approval as (account, agent, record)."""
        return [
            (account, agent, record)
            for account, agents in self._agents.items()
            for agent, record in agents.items()
        ]
