"""The state of the sealed lane: what was committed, what was revealed, and where each batch is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from omninode.dex.accounts import Account
from omninode.dex.book import Order

COLLECTING: Final = "collecting"
WAITING: Final = "waiting"
OPEN: Final = "open"
CLOSED: Final = "closed"


class SealedOrder:
    """A commitment, and the order behind it once it is revealed.

    `transaction_hash` is that of the commit, from which `order_id` derives. `bond` is what the
    subaccount holds for it in base units of the quote asset, 0 once it is revealed. `reference` is
    the market's last price when it was committed (0: none yet), by which the order is judged.
    """

    __slots__ = (
        "account",
        "batch",
        "bond",
        "commitment",
        "height",
        "market",
        "order",
        "order_id",
        "reference",
        "transaction_hash",
    )

    def __init__(
        self,
        *,
        transaction_hash: bytes,
        order_id: bytes,
        account: Account,
        market: str,
        commitment: bytes,
        bond: int,
        reference: int,
        batch: int,
        height: int,
    ) -> None:
        self.transaction_hash = transaction_hash
        self.order_id = order_id
        self.account = account
        self.market = market
        self.commitment = commitment
        self.bond = bond
        self.reference = reference
        self.batch = batch
        self.height = height
        self.order: Order | None = None


class Batch:
    """A batch of commitments; its number is the height of its first one.

    `stage` is `collecting`, `waiting` (its commitments are not known to be executed), `open` (they
    may be revealed) or `closed` (the next block clears it). `leaders` are the validators that led a
    block of the window, `leaders_needed` how many it waits for.
    """

    __slots__ = (
        "first_ms",
        "last_height",
        "leaders",
        "leaders_needed",
        "number",
        "opened_height",
        "opened_ms",
        "stage",
    )

    def __init__(self, number: int, *, first_ms: int) -> None:
        self.number = number
        self.first_ms = first_ms
        self.last_height = number
        self.stage = COLLECTING
        self.opened_height = 0
        self.opened_ms = 0
        self.leaders_needed = 0
        self.leaders: list[bytes] = []


class Sealed:
    """Everything behind module `sealed` of the app hash.

    At most one batch collects and one is on its way from there to its clearing. `changed_orders`
    (by commit) and `changed_batches` (by number) are what the block changed.
    """

    def __init__(self) -> None:
        self.by_commit: Final[dict[bytes, SealedOrder]] = {}
        self.by_order_id: Final[dict[bytes, SealedOrder]] = {}
        self.collecting: Batch | None = None
        self.revealing: Batch | None = None
        self.changed_orders: Final[dict[bytes, None]] = {}
        self.changed_batches: Final[dict[int, None]] = {}
        self._of_owner: Final[dict[bytes, dict[bytes, SealedOrder]]] = {}
        self._in_batch: Final[dict[tuple[int, str], int]] = {}

    @property
    def batches(self) -> tuple[Batch, ...]:
        """The batch that reveals and the one that collects, those that there are."""
        return tuple(batch for batch in (self.revealing, self.collecting) if batch is not None)

    def count_of_owner(self, address: bytes) -> int:
        """Return how many commitments of an address are not cleared."""
        return len(self._of_owner.get(address, ()))

    def count_in_batch(self, batch: int, market: str = "") -> int:
        """Return how many commitments a batch has, in a market or in all."""
        return self._in_batch.get((batch, market), 0)

    def orders_of(self, batch: int) -> list[SealedOrder]:
        """Return a batch's orders by order id, so that no table's order matters."""
        found = [entry for entry in self.by_commit.values() if entry.batch == batch]
        return sorted(found, key=lambda entry: entry.order_id)

    def of_account(self, account: Account) -> Iterator[SealedOrder]:
        """Yield a subaccount's orders."""
        for entry in self.of_owner(account.owner.address):
            if entry.account is account:
                yield entry

    def of_owner(self, address: bytes) -> Iterable[SealedOrder]:
        """Return the orders of all subaccounts of an address."""
        return self._of_owner.get(address, {}).values()

    def add(self, entry: SealedOrder) -> None:
        """Take in a commitment."""
        owner = entry.account.owner.address
        self.by_commit[entry.transaction_hash] = entry
        self.by_order_id[entry.order_id] = entry
        self._of_owner.setdefault(owner, {})[entry.order_id] = entry
        for place in ((entry.batch, entry.market), (entry.batch, "")):
            self._in_batch[place] = self._in_batch.get(place, 0) + 1

    def remove(self, entry: SealedOrder) -> None:
        """Forget an order that was cleared or burnt."""
        owner = entry.account.owner.address
        del self.by_commit[entry.transaction_hash]
        del self.by_order_id[entry.order_id]
        del self._of_owner[owner][entry.order_id]
        if not self._of_owner[owner]:
            del self._of_owner[owner]
        for place in ((entry.batch, entry.market), (entry.batch, "")):
            self._in_batch[place] -= 1
            if not self._in_batch[place]:
                del self._in_batch[place]
        self.changed_orders[entry.transaction_hash] = None

    def clear_changes(self) -> None:
        """Forget what changed; it was taken."""
        self.changed_orders.clear()
        self.changed_batches.clear()
