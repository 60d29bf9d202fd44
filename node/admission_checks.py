"""What admission judges against the newest executed state: time, funds, authority, nonces.

None of it decides whether a block is valid; execution judges again (PROTOCOL.md P2, P3).
"""

from __future__ import annotations

from omninode.dex.transaction import SCHEME_AGENT, SCHEME_VALIDATOR, Transaction
from omninode.errors import UserError
from omninode.node.admission_ports import AdmissionPorts


class StateChecks:
    """Refuses what the newest executed state would not let count.

    Args:
        ports: For the state and the clock.
        nonce_window_ms: From genesis.
    """

    def __init__(self, ports: AdmissionPorts, *, nonce_window_ms: int) -> None:
        self._ports = ports
        self._nonce_window_ms = nonce_window_ms

    def check_before_signature(self, transaction: Transaction) -> None:
        """Refuse what the unverified fields show already.

        Raises:
            UserError: `nonce_out_of_window`, or as `check_state` unless a session key signed.
        """
        self._check_window(transaction.nonce)
        if transaction.scheme != SCHEME_AGENT:
            self.check_state(transaction, signer=transaction.account)

    def _check_window(self, nonce: int) -> None:
        """Refuse a nonce that the next block would be too late or too early for."""
        # The chain may have rested; its next block has the time of its making.
        time_ms = max(self._ports.now_ms(), self._ports.state.chain_time_ms)
        if abs(nonce - time_ms) > self._nonce_window_ms:
            raise UserError(
                "nonce_out_of_window",
                f"nonce {nonce} is {nonce - time_ms:+} ms from now, "
                f"at most {self._nonce_window_ms} ms allowed",
                hint="a nonce is the time in milliseconds; check the clock",
            )

    def check_state(self, transaction: Transaction, *, signer: bytes) -> None:
        """Refuse by funds, authority and used nonces; a validator's word needs no funds.

        Raises:
            UserError: `insufficient_balance`, `not_authorised` or `nonce_used`.
        """
        state = self._ports.state
        account = transaction.account
        if transaction.scheme == SCHEME_VALIDATOR:
            if not state.may_state(account, transaction.action):
                raise UserError("not_authorised", "the account is not a validator's")
        elif not state.is_funded(account):
            raise UserError("insufficient_balance", "the account owns nothing on the exchange")
        elif not state.is_authorised(account, signer):
            raise UserError("not_authorised", "the session key is not approved by the account")
        if state.is_nonce_used(account, signer, transaction.nonce):
            raise UserError(
                "nonce_used",
                f"nonce {transaction.nonce} was used",
                hint="use max(now_ms, last + 1) as nonce",
            )

    def is_void(self, transaction: Transaction) -> bool:
        """Whether it can provably never count; funds and agents may look different soon."""
        state = self._ports.state
        if transaction.nonce + self._nonce_window_ms < state.chain_time_ms:
            return True
        return state.is_nonce_used(transaction.account, transaction.signer, transaction.nonce)
