"""What admission asks of the exchange's newest executed state (PROTOCOL.md P3)."""

from __future__ import annotations

from omninode.dex.actions import Action
from omninode.dex.bridge.execution import may_state
from omninode.dex.exchange import Exchange


class ExchangeAdmission:
    """Implements `node.admission_ports.AdmissionState` over the running exchange; only reads.

    Args:
        exchange: The state machine.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @property
    def chain_time_ms(self) -> int:
        """Time of the newest executed block."""
        return self._exchange.time_ms

    def is_funded(self, account: bytes) -> bool:
        """Whether any subaccount owns anything."""
        owner = self._exchange.state.accounts.owners.get(account)
        return owner is not None and any(
            balance.free or balance.held
            for subaccount in owner.subaccounts.values()
            for balance in subaccount.balances.values()
        )

    def is_nonce_used(self, account: bytes, signer: bytes, nonce: int) -> bool:
        """Whether an executed transaction used this nonce."""
        return self._exchange.state.nonces.is_used(account, signer, nonce)

    def is_authorised(self, account: bytes, signer: bytes) -> bool:
        """Whether a key may act for an account in anything at all."""
        if signer == account:
            return True
        agents = self._exchange.state.agents
        return agents.find(account, signer, self._exchange.time_ms) is not None

    def may_state(self, account: bytes, action: Action) -> bool:
        """Whether a validator's statement may come from the address of a vote key."""
        return may_state(self._exchange.state, account, action)
