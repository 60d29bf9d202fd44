"""Examining a validator's services, and being examined (consensus.md §3.2).

Rules
    H1. For the exchange: a probe transaction is handed to the audited node alone. It passes it to
        its own JSON-RPC interface, like a user; its peers spread it. It must be final here in time.
    H2. What an auditor sees is all that counts; what the audited node answers is not looked at.
    H3. A node serves probes meant for it only, a few a second for each auditor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import structlog
import trio

from omninode.consensus.driver.budget import Budget
from omninode.contracts.statements import Statements
from omninode.dex.exchange import Exchange
from omninode.dex.staking.statements import AuditProbe
from omninode.dex.transaction import decode_transaction
from omninode.errors import OmniNodeError, PeerFault
from omninode.node.client import RpcClient
from omninode.node.duties.limits import (
    PROBE_BYTES_MAX,
    PROBE_DEADLINE_MS,
    PROBES_SERVED_BURST,
    PROBES_SERVED_PER_SECOND,
)
from omninode.node.net.requests import RequestFailed, RequestRefused

log = structlog.get_logger("duties")

AUDIT_PROTOCOL: Final = "/omninode/audit/1"
FULL_POINTS: Final = 100
RPC_TIMEOUT_S: Final = 5
_SERVED: Final = b"ok"


class Asker(Protocol):
    """What an auditor needs of the network."""

    async def request(self, peer: str, protocol: str, payload: bytes, *, timeout_ms: int) -> bytes:
        """Ask one peer; raises `RequestFailed` or `PeerFault`."""
        ...


class Challenge(Protocol):
    """Examines one service; IPFS and chat bring theirs."""

    async def examine(self, audited: bytes, peer: str, *, epoch: int, salt: bytes) -> int:
        """Return the points that a validator's service is worth, 0 to 100."""
        ...


class ExchangeChallenge:
    """Sends probes and waits for them to become final (H1, H2).

    Args:
        network: To reach the audited node.
        statements: Signs the probes.
        exchange: The newest executed state.
        changed: Waits for the next executed block.
    """

    def __init__(
        self,
        network: Asker,
        statements: Statements,
        exchange: Exchange,
        *,
        changed: Callable[[], trio.Event],
    ) -> None:
        self._network = network
        self._statements = statements
        self._exchange = exchange
        self._changed = changed

    async def examine(self, audited: bytes, peer: str, *, epoch: int, salt: bytes) -> int:
        """Return full points for a probe that is final in time, else none."""
        probe = self._statements.sign(AuditProbe(epoch, audited, salt))
        account, nonce = probe.account, probe.nonce
        with trio.move_on_after(PROBE_DEADLINE_MS / 1000):
            try:
                await self._network.request(
                    peer, AUDIT_PROTOCOL, probe.raw, timeout_ms=PROBE_DEADLINE_MS
                )
            except (RequestFailed, PeerFault) as error:
                log.debug("probe_not_taken", peer=peer, error=str(error))
                return 0
            while not self._exchange.state.nonces.is_used(account, account, nonce):
                await self._changed().wait()
            return FULL_POINTS
        return 0


class ProbeServer:
    """Passes probes to this node's own interface (H1, H3).

    Args:
        me: Vote address of this validator.
        rpc_url: Where the interface listens.
    """

    def __init__(self, me: bytes, *, rpc_url: Callable[[], str]) -> None:
        self._me = me
        self._rpc_url = rpc_url
        self._served = Budget(per_second=PROBES_SERVED_PER_SECOND, burst=PROBES_SERVED_BURST)

    async def serve(self, peer: str, payload: bytes) -> bytes:
        """Answer `AUDIT_PROTOCOL`.

        Raises:
            Malformed: It is no transaction.
            PeerFault: It is no probe.
            RequestRefused: It is not for this node, there were too many, or the interface refuses.
        """
        if len(payload) > PROBE_BYTES_MAX:
            raise PeerFault("bad_probe", f"{len(payload)} bytes")
        action = decode_transaction(payload).action
        if not isinstance(action, AuditProbe):
            raise PeerFault("bad_probe", "not a probe")
        if action.audited != self._me:
            raise RequestRefused("the probe is for another validator")
        if self._served.is_empty(peer):
            raise RequestRefused("too many probes")
        self._served.spend(peer, 1)
        try:
            await trio.to_thread.run_sync(_submit, self._rpc_url(), payload)
        except OmniNodeError as error:
            raise RequestRefused(f"the interface refuses the probe: {error}") from error
        return _SERVED


def _submit(url: str, raw: bytes) -> None:
    with RpcClient(url, timeout_s=RPC_TIMEOUT_S) as client:
        client.call("omni_sendTransaction", {"tx": "0x" + raw.hex()})
