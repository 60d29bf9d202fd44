"""A small exchange for tests: three markets, four traders, and a database that gets every write.

Transactions count as signed by the account (or the session key) that they name; everything behind
the signature check is the real thing. `conftest.py` files load this module by its path.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from omninode.crypto import SIGNATURE_BYTES, SigningKey, checksum_address, keccak256
from omninode.dex.actions import (
    VALIDATOR_ACTIONS,
    Action,
    AttestDeposits,
    CancelAll,
    CancelOrder,
    CommitSealed,
    PlaceOrder,
    ReplaceOrder,
    RevealSealed,
    SignCheckpoint,
    Transfer,
    Withdraw,
)
from omninode.dex.bridge.deposits import Deposit, LogEntry, StakeChange, next_deposit_hash
from omninode.dex.events import Event
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import (
    AccountLimits,
    FeeShares,
    Genesis,
    GenesisAsset,
    GenesisBalance,
    GenesisMarket,
    GenesisSettlement,
    GenesisValidator,
    check_genesis,
)
from omninode.dex.invariants import check_state
from omninode.dex.outcomes import BlockInput, BlockOutcome, TransactionResult
from omninode.dex.sealed.commitment import make_commitment
from omninode.dex.sealed.state import CLOSED, OPEN, WAITING
from omninode.dex.sealed.terms import GenesisSealed
from omninode.dex.transaction import (
    SCHEME_AGENT,
    SCHEME_VALIDATOR,
    SCHEME_WALLET,
    Transaction,
    order_id,
)
from omninode.encoding import amount_to_bytes

ALICE, BOB, CAROL, DAVE = (keccak256(name)[-20:] for name in (b"alice", b"bob", b"carol", b"dave"))
TREASURY, DEVELOPMENT = (keccak256(name)[-20:] for name in (b"treasury", b"development"))
START_MS = 1_700_000_000_000
BLOCK_MS = 100
BTC, ETH, XOM = "BTC-USDC", "ETH-USDC", "XOM-USDC"


def make_genesis(**changes: Any) -> Genesis:
    """Build the genesis of the tests; `changes` replace whole sections."""
    key = SigningKey(keccak256(b"validator"))
    sections: dict[str, Any] = {
        "chain_id": "test",
        "settlement_chain_id": 31337,
        "genesis_time_ms": START_MS,
        "fees": FeeShares(
            treasury=checksum_address(TREASURY), development=checksum_address(DEVELOPMENT)
        ),
        "validators": (
            GenesisValidator(
                moniker="node0",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id="peer0",
                power=1,
            ),
        ),
        "assets": (
            GenesisAsset(name="USDC", decimals=6),
            GenesisAsset(name="BTC", decimals=8),
            GenesisAsset(name="ETH", decimals=18),
            GenesisAsset(name="XOM", decimals=18),
        ),
        "markets": (
            GenesisMarket(name=BTC, base="BTC", quote="USDC", tick="0.01", lot="0.00000001"),
            GenesisMarket(name=ETH, base="ETH", quote="USDC", tick="0.01", lot="0.0001"),
            GenesisMarket(name=XOM, base="XOM", quote="USDC", tick="0.0001", lot="1"),
        ),
        "balances": tuple(
            GenesisBalance(address=checksum_address(account), asset=asset, amount=amount)
            for account in (ALICE, BOB, CAROL)
            for asset, amount in (
                ("USDC", "1000000"),
                ("BTC", "10"),
                ("ETH", "100"),
                ("XOM", "100000"),
            )
        ),
        "limits": AccountLimits(max_open_orders_per_account=1_000),
    }
    genesis = Genesis(**(sections | changes))
    check_genesis(genesis)
    return genesis


VALIDATORS = tuple(SigningKey(keccak256(b"validator %d" % n)) for n in range(7))
TOKENS = {name: keccak256(b"token " + name.encode())[-20:] for name in ("USDC", "BTC", "XOM")}
"""ETH has no token: it can neither be deposited nor withdrawn."""

CONTRACT = keccak256(b"settlement contract")[-20:]
CHECKPOINT_MS = 1_000


def make_settled_genesis(powers: Sequence[int] = (1, 1, 1, 1), **changes: Any) -> Genesis:
    """Build the genesis of the tests with a settlement contract and several validators."""
    keys = [SigningKey(keccak256(b"validator %d" % n)) for n in range(len(powers))]
    sections: dict[str, Any] = {
        "validators": tuple(
            GenesisValidator(
                moniker=f"node{n}",
                address=checksum_address(key.address),
                public_key="0x" + key.public_key.hex(),
                peer_id=f"peer{n}",
                power=power,
            )
            for n, (key, power) in enumerate(zip(keys, powers, strict=True))
        ),
        "assets": tuple(
            msgspec.structs.replace(
                asset, token=checksum_address(TOKENS[asset.name]) if asset.name in TOKENS else ""
            )
            for asset in make_genesis().assets
        ),
        "settlement": GenesisSettlement(
            contract=checksum_address(CONTRACT),
            start_block=1,
            checkpoint_interval_ms=CHECKPOINT_MS,
        ),
    }
    return make_genesis(**(sections | changes))


def deposit(account: bytes, amount: int, token: str | bytes = "USDC", sub: int = 0) -> Deposit:
    """Build what the contract logs of a deposit; `amount` is in base units."""
    address = TOKENS[token] if isinstance(token, str) else token
    return Deposit(address, account, sub, amount_to_bytes(amount))


def stake(owner: bytes, kind: int, amount: int = 0, identity: bytes = b"") -> StakeChange:
    """An entry of stake as the contract logs it."""
    return StakeChange(owner, kind, amount_to_bytes(amount), identity)


class Log:
    """The contract's deposits, as one validator sees them."""

    def __init__(self, genesis_hash: bytes, deposits: Iterable[LogEntry] = ()) -> None:
        self.deposits: list[Deposit] = []
        self.hashes = [genesis_hash]
        for item in deposits:
            self.add(item)

    def add(self, item: LogEntry) -> None:
        self.hashes.append(next_deposit_hash(self.hashes[-1], len(self.deposits), item))
        self.deposits.append(item)

    def copy(self) -> Log:
        return Log(self.hashes[0], self.deposits)

    def attestation(self, start: int, end: int | None = None) -> AttestDeposits:
        """Attest up to `end` (all by default), from what is known up to `start`."""
        end = len(self.deposits) if end is None else end
        items = tuple(self.deposits[start:end])
        return AttestDeposits(self.hashes[start], end, self.hashes[end], items)


def order(side: str, size: str, price: str = "", **fields: Any) -> PlaceOrder:
    """Build an order; without a price it is a market order with the default bound."""
    limit = bool(price)
    values: dict[str, Any] = {
        "subaccount": 0,
        "market": BTC,
        "side": side,
        "order_type": "limit" if limit else "market",
        "size": size,
        "price": price,
        "tif": "gtc" if limit else "ioc",
        "post_only": False,
        "slippage_ppm": 0 if limit else 50_000,
        "client_id": "",
    }
    return PlaceOrder(**(values | fields))


class World:
    """An exchange, its database and its clock."""

    def __init__(self, genesis: Genesis | None = None) -> None:
        self.exchange = Exchange.genesis(genesis or make_genesis())
        self.database: dict[bytes, bytes] = {}
        self.events: tuple[Event, ...] = ()
        self.seed = bytes(32)
        self._nonce = 0

    @property
    def now_ms(self) -> int:
        return self.exchange.time_ms

    def transaction(
        self, account: bytes, action: Action, *, agent: bytes = b"", nonce: int | None = None
    ) -> Transaction:
        """Build a transaction with a fresh nonce near the next block's time."""
        if nonce is None:
            self._nonce = max(self._nonce + 1, self.now_ms)
            nonce = self._nonce
        scheme = SCHEME_AGENT if agent else SCHEME_WALLET
        if isinstance(action, VALIDATOR_ACTIONS):
            scheme = SCHEME_VALIDATOR
        made = Transaction(1, scheme, account, nonce, action, bytes(SIGNATURE_BYTES))
        made.set_signer(agent or account)
        return made

    def apply(
        self, *transactions: Transaction, after_ms: int = BLOCK_MS, **block: Any
    ) -> BlockOutcome:
        """Apply one block, store its writes and check every invariant.

        `block` are further fields of `BlockInput`.
        """
        exchange = self.exchange
        outcome = exchange.apply(
            BlockInput(
                exchange.height + 1, exchange.time_ms + after_ms, self.seed, transactions, **block
            )
        )
        for key, value in outcome.writes.items():
            if value is None:
                self.database.pop(key, None)
            else:
                self.database[key] = value
        self.events = outcome.events
        check_state(exchange.state, exchange._supply)
        return outcome

    def do(self, account: bytes, action: Action, **fields: Any) -> TransactionResult:
        """Apply a block with one transaction."""
        return self.apply(self.transaction(account, action, **fields)).results[0]

    def place(
        self, account: bytes, side: str, size: str, price: str = "", **fields: Any
    ) -> TransactionResult:
        return self.do(account, order(side, size, price, **fields))

    def cancel(
        self, account: bytes, order_id: bytes = b"", client_id: str = ""
    ) -> TransactionResult:
        return self.do(account, CancelOrder(0, order_id, client_id))

    def cancel_all(self, account: bytes, market: str = "") -> TransactionResult:
        return self.do(account, CancelAll(0, market))

    def replace(
        self, account: bytes, order_id: bytes, size: str, price: str, market: str = BTC
    ) -> TransactionResult:
        return self.do(account, ReplaceOrder(0, market, order_id, "", size, price))

    def transfer(self, account: bytes, to: bytes, amount: str, **fields: Any) -> TransactionResult:
        values = {"subaccount": 0, "to": to, "to_subaccount": 0, "asset": "USDC", "amount": amount}
        return self.do(account, Transfer(**(values | fields)))

    def withdraw(self, account: bytes, amount: str, **fields: Any) -> TransactionResult:
        values = {"subaccount": 0, "asset": "USDC", "amount": amount, "recipient": account}
        return self.do(account, Withdraw(**(values | fields)))

    def attest(self, validator: int, action: AttestDeposits) -> Transaction:
        return self.transaction(VALIDATORS[validator].address, action)

    def sign(self, validator: int, number: int | None = None) -> Transaction:
        """Build a validator's signature of a pending checkpoint, by default the newest."""
        pending = self.exchange.state.bridge.checkpoints.pending
        number = max(pending) if number is None else number
        key = VALIDATORS[validator]
        signature = key.sign(pending[number].digest)
        return self.transaction(key.address, SignCheckpoint(number, signature))

    def balance(self, account: bytes, asset: str, subaccount: int = 0) -> tuple[int, int]:
        """Return (free, held) in base units."""
        found = self.exchange.state.accounts.find(account, subaccount)
        if found is None:
            return (0, 0)
        balance = found.balances.get(self.exchange.rules.asset_index[asset])
        return (0, 0) if balance is None else (balance.free, balance.held)

    def of_type(self, kind: type[Any]) -> list[Any]:
        """Return the last block's events of one type."""
        return [event for event in self.events if type(event) is kind]

    def reload(self) -> Exchange:
        """Load a second exchange from the database."""
        return Exchange.load(self.exchange.rules, self.database.items())

    def records(self) -> dict[bytes, bytes]:
        """Return the whole state as records, the head included."""
        return dict(self.exchange.records())


SALT = keccak256(b"salt")
TERMS = GenesisSealed()


class Lane(World):
    """A world whose blocks say that everything before them is executed, for the sealed lane."""

    def __init__(self, **changes: Any) -> None:
        super().__init__(make_genesis(**changes) if changes else None)

    def apply(self, *transactions: Any, after_ms: int = 100, **block: Any) -> BlockOutcome:
        executed = {"executed_height": self.exchange.height}
        return super().apply(*transactions, after_ms=after_ms, **(executed | block))

    def commit(
        self, account: bytes, hidden: PlaceOrder, bond: str = "200", **fields: Any
    ) -> tuple[bytes, TransactionResult]:
        """Commit in a block of its own; return the commit's hash and its result."""
        made = CommitSealed(
            hidden.subaccount, hidden.market, bond, make_commitment(account, hidden, SALT)
        )
        sent = self.transaction(account, made, **fields)
        return sent.hash, self.apply(sent).results[0]

    def reveal(
        self, account: bytes, commit: bytes, hidden: PlaceOrder, **fields: Any
    ) -> TransactionResult:
        return self.do(account, RevealSealed(commit, hidden, SALT), **fields)

    def open_window(self) -> None:
        """End the collection; the next block opens the window."""
        self.apply(after_ms=TERMS.collect_ms)
        assert self.stage == WAITING
        self.apply()
        assert self.stage == OPEN

    def close_and_clear(self, **block: Any) -> None:
        self.apply(after_ms=TERMS.window_ms)
        assert self.stage == CLOSED
        self.apply(**block)
        assert self.stage is None

    @property
    def stage(self) -> str | None:
        batch = self.exchange.state.sealed.revealing
        return None if batch is None else batch.stage

    def batch_of(self, *orders: tuple[bytes, PlaceOrder]) -> list[bytes]:
        """Commit, reveal and clear orders; return their order ids."""
        commits = [self.commit(account, hidden)[0] for account, hidden in orders]
        self.open_window()
        for (account, hidden), commit in zip(orders, commits, strict=True):
            assert self.reveal(account, commit, hidden).code == "ok"
        self.close_and_clear()
        return [order_id(commit, 0) for commit in commits]
