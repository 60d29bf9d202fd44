"""Movers: accounts that deposit, withdraw and claim all the time, as any user does.

Rules
    M1. Every step goes through a validator, another each time; the settlement chain is reached by
        passing on alone.
    M2. What a mover has under way is asked from the network, not remembered: after a fault, or in a
        later run, it first claims whatever it has not claimed.
    M3. Amounts end in odd units, so that an error of one unit anywhere shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.actions import Withdraw
from omninode.dex.decimals import format_units
from omninode.errors import OmniNodeError, UserError
from omninode.node.devnet.anyone import Anyone
from omninode.node.devnet.flow import Request
from omninode.node.devnet.limits import (
    MOVER_POLL_S,
    MOVER_RETRY_S,
    MOVER_STEP_DEADLINE_S,
    UNCLAIMED_MAX,
)
from omninode.node.devnet.sender import Sender
from omninode.node.funds.chain import SettlementChain
from omninode.node.funds.moving import approve_if_needed, send_claim, send_deposit
from omninode.node.funds.terms import SettlementTerms
from omninode.node.funds.wallet import Wallet

_SMALLEST_SHARE: Final = 1_000
"""The least amount is one in so many units of an asset: a thousandth of a bitcoin."""

_NOT_YET: Final = frozenset({"not_checkpointed", "unknown_withdrawal"})
"""Refusals of a proof that pass; a validator may be a block behind the one that told of it."""

Document = dict[str, Any]


class Mover:
    """One account that moves one asset there and back.

    Args:
        name: The account.
        key: Its key.
        asset: What it moves.
        anyone: The validators.
        sender: Sends its withdrawals.
        terms: The network's.
        tell: Told what goes wrong, for people.
    """

    def __init__(
        self,
        name: str,
        key: SigningKey,
        asset: str,
        *,
        anyone: Anyone,
        sender: Sender,
        terms: SettlementTerms,
        tell: Callable[[str], None],
    ) -> None:
        self.is_resting = True
        self._name = name
        self._address = checksum_address(key.address)
        self._terms = terms
        self._asset, self._token = terms.token_of(asset)
        self._ask = anyone
        self._chain = SettlementChain(anyone)
        self._wallet = Wallet(key, anyone, chain_id=terms.chain_id)
        self._sender = sender
        self._tell = tell
        self._count = 0
        self._is_stopping = False

    def stop(self) -> None:
        """Begin nothing new; what is under way goes on."""
        self._is_stopping = True

    async def run(self) -> None:
        """Move funds until told to stop; whatever goes wrong is told and begun anew (M2)."""
        self.is_resting = False
        is_clean = False
        while not (self._is_stopping and is_clean):
            try:
                with trio.fail_after(MOVER_STEP_DEADLINE_S):
                    if is_clean:
                        is_clean = False
                        await self._move()
                    else:
                        await self._claim_all()
                    is_clean = True
            except trio.TooSlowError:
                self._tell(f"{self._name}: no progress for {MOVER_STEP_DEADLINE_S:.0f} s")
            except OmniNodeError as error:
                self._tell(f"{self._name}: {error}")
                await trio.sleep(MOVER_RETRY_S)
        self.is_resting = True

    async def _move(self) -> None:
        """Move an amount to the exchange and back."""
        amount = self._next_amount()
        spender = self._terms.contract
        await approve_if_needed(self._wallet, self._chain, self._token, spender, amount)
        deposited = await send_deposit(
            self._wallet,
            self._terms,
            self._token,
            amount,
            account=self._wallet.address,
            subaccount=0,
        )
        await self._credited(deposited.index)
        action = Withdraw(
            subaccount=0,
            asset=self._asset.name,
            amount=format_units(amount, self._asset.decimals),
            recipient=self._wallet.address,
        )
        identifier = await self._sender.send(Request(self._name, action, 1), measured=False)
        await self._sender.settled([identifier])
        await self._claim(await self._withdrawal_of("0x" + identifier.hex()))

    def _next_amount(self) -> int:
        self._count += 1
        unit: int = 10**self._asset.decimals
        return unit // _SMALLEST_SHARE * (1 + self._count % 10) + self._count % 997  # M3

    async def _credited(self, index: int) -> None:
        while True:
            answer = await self._ask("omni_getDeposits", {"address": self._address, "limit": 1})
            if int(answer["credited_count"]) > index:
                return
            await trio.sleep(MOVER_POLL_S)

    async def _withdrawals(self) -> list[Document]:
        params = {"address": self._address, "limit": UNCLAIMED_MAX}
        answer = await self._ask("omni_getWithdrawals", params)
        rows: list[Document] = answer["withdrawals"]
        return rows

    async def _withdrawal_of(self, transaction: str) -> int:
        """Return the number of the withdrawal that a transaction asked for."""
        while True:
            for row in await self._withdrawals():
                if row["transaction"] == transaction:
                    return int(row["id"])
            await trio.sleep(MOVER_POLL_S)

    async def _claim_all(self) -> None:
        """Claim what an earlier round or run has left (M2)."""
        for row in await self._withdrawals():
            if row["state"] != "claimed":
                await self._claim(int(row["id"]))

    async def _claim(self, index: int) -> None:
        async def read_proof() -> Document:
            while True:
                try:
                    proof: Document = await self._ask("omni_getWithdrawalProof", {"id": index})
                except UserError as error:
                    if error.reason not in _NOT_YET:
                        raise
                    await trio.sleep(MOVER_POLL_S)
                else:
                    return proof

        try:
            await send_claim(self._wallet, self._chain, self._terms, index, read_proof)
        except UserError as error:
            if error.reason != "already_claimed":
                raise


async def run_movers(movers: Sequence[Mover]) -> None:
    """Run movers until all were told to stop and have claimed what they withdrew."""
    async with trio.open_nursery() as nursery:
        for mover in movers:
            nursery.start_soon(mover.run)
