"""This validator's own transactions about settlement: each said once, and again when it expired.

Rules
    T1. A statement waits for a block under a name of its own ("deposits", "checkpoint 7"). While it
        waits, none is made under the same name; it has ended when its nonce is used or can not be
        used any more. So there is one of a kind on the way, whatever happens.
    T2. What is said is worked out anew from the state each time; nothing is kept for a restart.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from omninode.contracts.limits import STATEMENTS_OPEN_MAX
from omninode.contracts.ports import Door
from omninode.crypto import SigningKey
from omninode.dex.actions import Action
from omninode.dex.eip712 import Domain
from omninode.dex.exchange import Exchange
from omninode.dex.transaction import Transaction, sign_validator
from omninode.errors import UserError

log = structlog.get_logger(subsystem="settlement")


class Statements:
    """Signs and submits statements, and knows which are on the way.

    Args:
        key: The validator's vote key.
        door: Takes the transactions.
        exchange: The newest executed state.
        now_ms: The wall clock.

    Attributes:
        refused: Why the door refused the last statement, or empty.
    """

    def __init__(
        self, key: SigningKey, *, door: Door, exchange: Exchange, now_ms: Callable[[], int]
    ) -> None:
        self.refused = ""
        self._key = key
        self._door = door
        self._exchange = exchange
        self._now_ms = now_ms
        self._domain = Domain(exchange.rules.settlement_chain_id, exchange.rules.hash)
        self._window_ms = exchange.rules.consensus.nonce_window_ms
        self._open: dict[str, int] = {}
        self._nonce = 0

    def is_open(self, name: str) -> bool:
        """Whether a statement of this name is on the way (T1)."""
        nonce = self._open.get(name)
        if nonce is None:
            return False
        address, exchange = self._key.address, self._exchange
        ended = exchange.state.nonces.is_used(address, address, nonce)
        is_late = exchange.time_ms > nonce + self._window_ms
        is_early = nonce > self._now_ms() + self._window_ms  # The clock was set back.
        if ended or is_late or is_early:
            del self._open[name]
            return False
        return True

    def sign(self, action: Action) -> Transaction:
        """Sign a statement with a nonce of its own; whoever asked sends it."""
        now_ms = self._now_ms()
        self._nonce = max(now_ms, min(self._nonce, now_ms + self._window_ms // 2) + 1)
        return sign_validator(self._key, action, nonce=self._nonce, domain=self._domain)

    async def say(self, name: str, action: Action) -> None:
        """Submit a validator's statement; a refusal is noted, whoever asked tries again later."""
        for other in list(self._open):
            self.is_open(other)
        if len(self._open) >= STATEMENTS_OPEN_MAX:
            return
        transaction = self.sign(action)
        # Before the door is asked: it may execute the transaction before it answers.
        self._open[name] = self._nonce
        try:
            await self._door.submit(transaction.raw)
            self.refused = ""
        except UserError as error:
            self._open.pop(name, None)
            if self.refused != error.reason:
                log.warning("statement_refused", name=name, reason=error.reason, why=str(error))
            self.refused = error.reason
