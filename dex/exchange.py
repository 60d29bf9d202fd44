"""The exchange: applies finalized blocks to the state. No clock, no chance, no input or output.

Rules
    E1. A block's transactions run in the order of `ordering` (PROTOCOL.md P4), each whole or not at
        all. A refusal is a result.
    E2. Every included transaction uses its nonce, also when it is refused, so that its first
        result stands for ever. Nonces belong to an account *and* its signer: one that is not
        authorised spends nobody else's. A used nonce, or one outside the window, makes an
        inclusion without effect (`ignored`).
    E3. The block's time is its header's; expiries and windows look at nothing else.
    E4. What an outcome writes is all that a restart needs: `load` gives the same exchange back.
    E5. The first block's writes carry the records of genesis with them.

`apply` is one synchronous call, about 10 to 40 microseconds an order; callers keep the cycle
collector off meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Self

from omninode.crypto import parse_address
from omninode.dex.actions import (
    STAKING_ACTIONS,
    Action,
    ApproveAgent,
    AttestDeposits,
    Batch,
    CancelAll,
    CancelOrder,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    RevokeAgent,
    SignCheckpoint,
    SignHandover,
    Transfer,
    Withdraw,
)
from omninode.dex.bridge.execution import (
    attest_deposits,
    credit,
    end_block,
    may_state,
    sign_checkpoint,
    sign_handover,
    withdraw,
)
from omninode.dex.decimals import parse_units
from omninode.dex.events import AgentApproved, AgentRevoked, Event, LevelChanged
from omninode.dex.genesis import Genesis
from omninode.dex.hashing import Changes, chain_hash, hash_parts
from omninode.dex.invariants import check_block, check_state
from omninode.dex.limits import INVARIANT_SCAN_BLOCKS
from omninode.dex.nonces import nonce_key
from omninode.dex.ordering import execution_order
from omninode.dex.orders import cancel_all, cancel_one, place, replace
from omninode.dex.outcomes import (
    IGNORED,
    OK,
    REJECTED,
    BlockInput,
    BlockOutcome,
    EpochCut,
    ItemResult,
    TransactionResult,
)
from omninode.dex.records import all_records, head_entry, load_records, take_changes
from omninode.dex.sealed import execution as sealed_lane
from omninode.dex.staking import execution as staking
from omninode.dex.state import Context, State
from omninode.dex.stored import HeadRecord
from omninode.dex.transaction import SCHEME_VALIDATOR, SCHEME_WALLET, Transaction
from omninode.dex.transfers import transfer
from omninode.errors import BrokenInvariant, Rejected

Items = tuple[ItemResult, ...]
Handler = Callable[[State, Context, Any], Items]

_DONE: Final[Items] = (ItemResult("done"),)


class Exchange:
    """The state machine at one height. Build it with `genesis` or `load`.

    Attributes:
        height: The last block applied; 0 at genesis.
        time_ms: Its time.
        app_hash: The chained hash of everything up to it (PROTOCOL.md P5).
        state: The state, for `views`; only this package changes it.
    """

    def __init__(self, genesis: Genesis) -> None:
        self.rules: Final = genesis
        self.state: Final = State(genesis)
        self.height = 0
        self.time_ms = genesis.genesis_time_ms
        self.app_hash = b""
        self._supply: Final = genesis.supply
        self._unsaved: dict[bytes, bytes | None] = {}

    @classmethod
    def genesis(cls, genesis: Genesis) -> Self:
        """Build the exchange of height 0 from a checked genesis."""
        exchange = cls(genesis)
        _credit_genesis(exchange.state)
        changes = take_changes(exchange.state)
        parts = hash_parts((), changes)
        exchange.app_hash = chain_hash(genesis.hash, 0, parts)
        exchange._unsaved = _writes(changes)  # E5
        return exchange

    @classmethod
    def load(cls, genesis: Genesis, records: Iterable[tuple[bytes, bytes]]) -> Self:
        """Build the exchange from its stored records; without any, that of height 0.

        Raises:
            StorageFault: A record that can not be read.
            BrokenInvariant: Records that contradict each other or the genesis.
        """
        exchange = cls(genesis)
        head = load_records(exchange.state, records)
        if head is None:
            return cls.genesis(genesis)
        exchange.height, exchange.time_ms = head.height, head.time_ms
        exchange.app_hash = head.app_hash
        check_state(exchange.state, exchange._supply)
        return exchange

    def apply(self, block: BlockInput) -> BlockOutcome:
        """Execute the next finalized block.

        Args:
            block: Height `self.height + 1`; each transaction's signer is known.

        Returns:
            Results in body order, events in the order of execution, and the records to store.

        Raises:
            BrokenInvariant: A block out of order, or our own defect; the node must stop.
        """
        if block.height != self.height + 1:
            raise BrokenInvariant(f"block {block.height} on top of height {self.height}")
        state = self.state
        staking.begin_block(state, block.time_ms)
        state.nonces.begin_block(block.time_ms)
        state.client_ids.begin_block(block.time_ms)
        sealed_lane.begin_block(state, block)
        results: dict[int, TransactionResult] = {}
        for index in execution_order(block.transactions, block.seed):
            results[index] = self._execute(block, block.transactions[index])
        sealed_lane.end_block(state, block)
        state.nonces.end_block(block.height, block.time_ms)
        state.client_ids.end_block(block.height, block.time_ms)
        if state.staking.is_on:
            staking.end_block(state, block)
        if state.bridge.is_on:
            credit(state)
        if state.staking.is_on:
            staking.cut_if_due(state, block)
        if state.bridge.is_on:
            end_block(state, block.height, block.time_ms)
        cut = staking.cut_of(state, block.height)
        check_block(state)
        return self._finish(block, tuple(results[index] for index in range(len(results))), cut)

    def records(self) -> Iterable[tuple[bytes, bytes]]:
        """Return the whole state as records, the head included: what `load` takes."""
        yield from all_records(self.state)
        yield self._head()

    def _execute(self, block: BlockInput, transaction: Transaction) -> TransactionResult:
        """Execute one transaction (E1, E2)."""
        state = self.state
        account, signer, nonce = transaction.account, transaction.signer, transaction.nonce
        if not state.nonces.is_in_window(nonce, block.time_ms):
            return TransactionResult(transaction.hash, IGNORED, "nonce_out_of_window")
        if not state.nonces.use(nonce_key(account, signer, nonce)):
            return TransactionResult(transaction.hash, IGNORED, "nonce_used")
        permissions: tuple[str, ...] | None = None
        if transaction.scheme == SCHEME_VALIDATOR:
            if signer != account or not may_state(state, account, transaction.action):
                return TransactionResult(transaction.hash, REJECTED, "not_authorised")
        elif transaction.scheme != SCHEME_WALLET or signer != account:
            agent = state.agents.find(account, signer, block.time_ms)
            if agent is None:
                return TransactionResult(transaction.hash, REJECTED, "not_authorised")
            permissions = agent.permissions
        context = Context(
            height=block.height,
            time_ms=block.time_ms,
            account=account,
            nonce=nonce,
            transaction_hash=transaction.hash,
            permissions=permissions,
        )
        action = transaction.action
        try:
            items = _HANDLERS[type(action)](state, context, action)
        except Rejected as error:
            return TransactionResult(transaction.hash, REJECTED, error.reason)
        if len(items) == 1 and items[0].status == REJECTED and type(action) is not Batch:
            return TransactionResult(transaction.hash, REJECTED, items[0].reason, items)
        return TransactionResult(transaction.hash, OK, "", items)

    def _finish(
        self, block: BlockInput, results: tuple[TransactionResult, ...], cut: EpochCut | None
    ) -> BlockOutcome:
        """Hash and hand over what the block did."""
        state = self.state
        events = state.open_orders.events
        state.open_orders.events = []
        for market in state.market_list:
            if market.book.touched:
                name, book = market.spec.name, market.book
                events += [
                    LevelChanged(name, key > 0, abs(key), book.level_lots(key))
                    for key in book.touched
                ]
                book.touched = {}
        changes = take_changes(state)
        parts = hash_parts(results, changes)
        self.height, self.time_ms = block.height, block.time_ms
        self.app_hash = chain_hash(self.app_hash, block.height, parts)
        if self.height % INVARIANT_SCAN_BLOCKS == 0:
            check_state(state, self._supply)
        writes = self._unsaved | _writes(changes) if self._unsaved else _writes(changes)
        self._unsaved = {}
        head_key, head = self._head()
        writes[head_key] = head
        return BlockOutcome(block.height, self.app_hash, parts, results, tuple(events), writes, cut)

    def _head(self) -> tuple[bytes, bytes]:
        return head_entry(HeadRecord(self.height, self.time_ms, self.app_hash))


def _credit_genesis(state: State) -> None:
    """Pay out the balances of genesis."""
    genesis = state.genesis
    for entry in genesis.balances:
        asset = genesis.asset_index[entry.asset]
        account = state.accounts.account(parse_address(entry.address), entry.subaccount)
        amount = parse_units(entry.amount, genesis.assets[asset].decimals)
        state.accounts.credit(account.balance(asset), amount)
    staking.credit_genesis(state)
    if state.bridge.is_on:
        state.bridge.balances.touch(state.accounts.dirty)


def _writes(changes: dict[str, Changes]) -> dict[bytes, bytes | None]:
    writes: dict[bytes, bytes | None] = {}
    for changed in changes.values():
        writes.update(changed)
    return writes


def _place(state: State, context: Context, action: PlaceOrder) -> Items:
    return (place(state, context, action, 0),)


def _cancel(state: State, context: Context, action: CancelOrder) -> Items:
    return (cancel_one(state, context, action),)


def _replace(state: State, context: Context, action: ReplaceOrder) -> Items:
    return (replace(state, context, action),)


def _batch(state: State, context: Context, action: Batch) -> Items:
    """Do cancels, then replaces, then orders, each judged on its own; statuses in that order."""
    items = [cancel_one(state, context, item) for item in action.cancels]
    items += [replace(state, context, item) for item in action.replaces]
    items += [place(state, context, item, index) for index, item in enumerate(action.orders)]
    return tuple(items)


def _transfer(state: State, context: Context, action: Transfer) -> Items:
    transfer(state, context, action)
    return _DONE


def _approve_agent(state: State, context: Context, action: ApproveAgent) -> Items:
    if context.permissions is not None:
        raise Rejected("not_authorised", "only the account's own key approves session keys")
    state.agents.approve(context.account, action, context.time_ms)
    event: Event = AgentApproved(
        context.account, action.agent, action.name, action.permissions, action.expires_ms
    )
    state.open_orders.events.append(event)
    return _DONE


def _revoke_agent(state: State, context: Context, action: RevokeAgent) -> Items:
    if context.permissions is not None:
        raise Rejected("not_authorised", "only the account's own key revokes session keys")
    state.agents.revoke(context.account, action.agent)
    state.open_orders.events.append(AgentRevoked(context.account, action.agent))
    return _DONE


def _withdraw(state: State, context: Context, action: Withdraw) -> Items:
    withdraw(state, context, action)
    return _DONE


def _attest_deposits(state: State, context: Context, action: AttestDeposits) -> Items:
    attest_deposits(state, context, action)
    return _DONE


def _sign_checkpoint(state: State, context: Context, action: SignCheckpoint) -> Items:
    sign_checkpoint(state, context, action)
    return _DONE


def _sign_handover(state: State, context: Context, action: SignHandover) -> Items:
    sign_handover(state, context, action)
    return _DONE


def _statement(state: State, context: Context, action: staking.Statement) -> Items:
    staking.state_it(state, context, action)
    return _DONE


def _commit_sealed(state: State, context: Context, action: CommitSealed) -> Items:
    return (sealed_lane.commit_sealed(state, context, action),)


def _reveal_sealed(state: State, context: Context, action: RevealSealed) -> Items:
    return (sealed_lane.reveal_sealed(state, context, action),)


_HANDLERS: Final[dict[type[Action], Handler]] = {
    PlaceOrder: _place,
    CancelOrder: _cancel,
    CancelAll: cancel_all,
    ReplaceOrder: _replace,
    Transfer: _transfer,
    ApproveAgent: _approve_agent,
    RevokeAgent: _revoke_agent,
    Batch: _batch,
    Withdraw: _withdraw,
    AttestDeposits: _attest_deposits,
    SignCheckpoint: _sign_checkpoint,
    SignHandover: _sign_handover,
    **dict.fromkeys(STAKING_ACTIONS, _statement),
    CommitSealed: _commit_sealed,
    RevealSealed: _reveal_sealed,
}
