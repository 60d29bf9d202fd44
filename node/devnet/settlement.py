"""The settlement side of a devnet's run: chain, contracts, who moves funds, what is counted.

```
chain process ─ answers ─ contracts deployed ─ validators follow it ─ movers
```

The chain and the deployment begin with the validators, not after them; nothing waits for them but
the load.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

import msgspec
import trio

from omninode.contracts.endpoint import Endpoint
from omninode.errors import ChainError, OmniNodeError, UserError
from omninode.node.devnet import accounts
from omninode.node.devnet.answers import checked
from omninode.node.devnet.anyone import Anyone
from omninode.node.devnet.chain_place import chain_process
from omninode.node.devnet.change import Change
from omninode.node.devnet.deployment import (
    DEPLOYER_COINS,
    FEW,
    PLENTY,
    WEI,
    deploy,
    deployment_calls,
)
from omninode.node.devnet.limits import (
    ANSWER_STOPPED_S,
    BACKING_DEADLINE_S,
    BACKING_RETRY_S,
    BACKING_STOPPED_S,
    CALL_TIMEOUT_S,
    CHAIN_POLL_S,
    CHAIN_START_DEADLINE_S,
    COUNT_INTERVAL_S,
    FOLLOWING_DEADLINE_S,
    FOLLOWING_POLL_S,
)
from omninode.node.devnet.money import Comparison, MoneyCounts, NotCompared
from omninode.node.devnet.movers import Mover, run_movers
from omninode.node.devnet.observer import Observer
from omninode.node.devnet.sender import Sender
from omninode.node.devnet.world import World
from omninode.node.funds.backing import read_backing
from omninode.node.funds.chain import Ask, SettlementChain
from omninode.node.funds.ledger import Ledger
from omninode.node.funds.terms import SettlementTerms, settlement_terms

Document = dict[str, Any]
Tell = Callable[[str], None]

_SILENT: Final = "the chain does not answer"
_CHAIN_IS_SILENT: Final = frozenset({"settlement_unreachable", "settlement_off"})


class Settlement:
    """A devnet's money between its two sides.

    Args:
        world: The devnet.
        observer: Its validators.
        sender: Sends transactions to them.
        change: Told when a validator becomes ready.
        tell: Told what happens, for people.
    """

    def __init__(
        self, world: World, observer: Observer, sender: Sender, *, change: Change, tell: Tell
    ) -> None:
        self.process: Final = chain_process(
            world.chain, world.chain_folder, deployer=world.deployer.address
        )
        self.terms: Final = terms_of(world)
        self.counts = MoneyCounts()
        self._world = world
        self._observer = observer
        self._tell = tell
        self._anyone = Anyone(observer.connections, change)
        self._chain = SettlementChain(self._anyone)
        self._ledger = Ledger(self._chain, self.terms)
        self._deployed = trio.Event()
        self._at_rest = trio.Event()
        assets = tuple(self.terms.assets)
        self._movers = tuple(
            Mover(
                name,
                world.keys[name],
                assets[place % len(assets)],
                anyone=self._anyone,
                sender=sender,
                terms=self.terms,
                tell=tell,
            )
            for place, name in enumerate(accounts.MOVERS)
        )

    async def deploy(self) -> None:
        """Wait for the chain, and deploy on it what is not there yet.

        Raises:
            UserError: `no_progress`, `deployer_needs_coins`, `wrong_contract`.
            ChainError: The chain's answers are none, or it refuses a transaction.
        """
        world = self._world
        endpoint = Endpoint(world.chain.url, timeout_s=CALL_TIMEOUT_S)
        ask = checked(endpoint.call)
        try:
            await self._chain_answers(ask)
            if world.chain.kind == "anvil":
                await self._fund(endpoint)
            calls = deployment_calls(
                world.genesis,
                world.plan,
                purses=[world.keys[name].address for name in (*accounts.PEOPLE, *accounts.MOVERS)],
                relayers=world.relayers(),
                coins=PLENTY if world.chain.is_ours else FEW,
            )
            sent = await deploy(ask, world.deployer, world.genesis, world.plan, calls)
        finally:
            with trio.CancelScope(shield=True):
                await endpoint.close()
        if sent:
            self._tell(f"contracts are on the chain at {world.chain.url}")
        self._deployed.set()

    async def _chain_answers(self, ask: Ask) -> None:
        wanted = self._world.chain.chain_id
        with trio.move_on_after(CHAIN_START_DEADLINE_S) as scope:
            while True:
                try:
                    found = await SettlementChain(ask).chain_id()
                    break
                except ChainError:
                    await trio.sleep(CHAIN_POLL_S)
        if scope.cancelled_caught:
            raise UserError(
                "no_progress",
                f"no chain answers at {self._world.chain.url} after {CHAIN_START_DEADLINE_S:.0f} s",
                hint=f"its log is in {self._world.chain_folder}",
            )
        if self.process is not None:
            self.process.has_answered = True
        if found != wanted:
            raise UserError("wrong_chain", f"the chain's id is {found}, not {wanted}")

    async def _fund(self, endpoint: Endpoint) -> None:
        """Give the deployer coins, as only a developer's chain allows."""
        address = "0x" + self._world.deployer.address.hex()
        await endpoint.call("anvil_setBalance", [address, hex(DEPLOYER_COINS * WEI)])

    async def ready(self) -> None:
        """Return when the contracts are there and the validators follow them, or after a while."""
        await self._deployed.wait()
        with trio.move_on_after(FOLLOWING_DEADLINE_S) as scope:
            await self._until_all_follow()
        if scope.cancelled_caught:
            self._tell("not every validator follows the settlement chain yet")

    async def _until_all_follow(self) -> None:
        while True:
            if await self._all_follow():
                return
            await trio.sleep(FOLLOWING_POLL_S)

    async def _all_follow(self) -> bool:
        for connection in self._observer.connections:
            try:
                status = await connection.call("omni_status")
            except UserError:
                return False
            if (status.get("settlement") or {}).get("state") != "following":
                return False
        return True

    async def move(self) -> None:
        """Move funds until `stop_moving`."""
        await run_movers(self._movers)
        self._at_rest.set()

    async def stop_moving(self) -> None:
        """Return when what is under way has arrived."""
        for mover in self._movers:
            mover.stop()
        await self._at_rest.wait()

    async def count(self) -> MoneyCounts:
        """Count what has gone over the chain so far.

        Raises:
            OmniNodeError: Nobody answers.
        """
        supply = await self._anyone("omni_getSupply", {})
        await self._ledger.advance()
        self.counts = MoneyCounts(
            int(supply["deposits"]["count"]), self._ledger.withdrawals, self._ledger.checkpoints
        )
        return self.counts

    async def keep_counting(self) -> NoReturn:
        """Keep `counts` up to date until cancelled."""
        while True:
            with suppress(OmniNodeError):  # counted the next time
                await self.count()
            await trio.sleep(COUNT_INTERVAL_S)

    async def last_count(self, *, stopped: bool) -> MoneyCounts:
        """Count once more; where nobody answers, or not in time, what was counted last.

        Args:
            stopped: Somebody pressed Ctrl-C and waits.
        """
        with suppress(OmniNodeError), trio.move_on_after(ANSWER_STOPPED_S if stopped else math.inf):
            await self.count()
        return self.counts

    async def backing(self, *, stopped: bool) -> Comparison:
        """Compare both sides, again until it is done: a chain that died is being started again.

        Args:
            stopped: Somebody pressed Ctrl-C and waits.
        """
        why = _SILENT
        with trio.move_on_after(BACKING_STOPPED_S if stopped else BACKING_DEADLINE_S):
            while self.process is None or not self.process.is_given_up:
                try:
                    return await read_backing(
                        lambda: self._anyone("omni_getSupply", {}),
                        self._chain,
                        self._ledger,
                        self.terms,
                    )
                except UserError as error:
                    why = _SILENT if error.reason in _CHAIN_IS_SILENT else str(error)
                except OmniNodeError as error:
                    why = str(error)
                await trio.sleep(BACKING_RETRY_S)
        if not any(connection.connected for connection in self._observer.connections):
            why = "no validator answers"
        return NotCompared(why)


def terms_of(world: World) -> SettlementTerms:
    """Return a devnet's settlement as any client reads it from its nodes."""
    genesis = world.genesis
    return settlement_terms(
        {"genesis": msgspec.to_builtins(genesis), "genesis_hash": "0x" + genesis.hash.hex()}
    )
