"""The door for transactions: checked once, made durable, handed to the other validators.

Rules
    A1. Cheap checks first: size, encoding, rules of genesis, nonce window, state; then the
        signature, and what depends on the signer.
    A2. A user's transaction is in the pool, in the journal on disk and queued for the peers before
        its hash is returned (PROTOCOL.md P8). One that is known already is no error.
    A3. A peer answers for what it sends: what its own door must have refused is its fault. What two
        honest nodes may see differently (funds, nonces, time, room) is dropped without blame.
    A4. Whether a body is valid depends on its bytes and signature only (P2), never on the pool.
    A5. Peers get what a few milliseconds brought in one frame. A frame that gets lost is made good
        by handing what stays pending to the leader (P3), or by sending it once more.
    A6. The lists for journal and peers are emptied every few milliseconds and hold at most what
        passed the pool's bounds meanwhile.

`Admission` implements `consensus.ports.Pool`. Nothing is acknowledged while `run` does not run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NoReturn

import structlog
import trio

from omninode.crypto import keccak256
from omninode.dex.eip712 import Domain
from omninode.dex.outcomes import IGNORED, TransactionResult
from omninode.dex.transaction import (
    TRANSACTION_BYTES_MAX,
    Rules,
    Transaction,
    check_stateless,
    decode_transaction,
)
from omninode.errors import Malformed, PeerFault, UserError
from omninode.node.admission_checks import StateChecks
from omninode.node.admission_ports import AdmissionPorts
from omninode.node.limits import (
    FRAME_TRANSACTIONS_MAX,
    PENALTY_BAD_TRANSACTION,
    RECENTLY_FINAL_MAX,
    SUBMIT_TRANSACTIONS_MAX,
)
from omninode.node.mempool import BlockLimits, Mempool
from omninode.node.signature_checks import SignatureChecks
from omninode.node.transaction_frames import decode_frame, encode_frames
from omninode.storage.records import JournalEntry

log = structlog.get_logger("admission")

BROADCAST_GAP_MS: Final = 5
"""Least time between two frames (A5): a lone transaction goes at once, a stream is gathered."""


class Admission:
    """Takes transactions from users and peers into the pool, and gives them to consensus.

    Args:
        pool: The transactions held.
        ports: The rest of the node.
        rules: Markets and assets of genesis.
        domain: The network that signatures must be for.
        limits: What fits in one block.
        nonce_window_ms: From genesis.

    Attributes:
        counts: What became of transactions so far: `accepted`, `from_peers`, each refusal's word.
    """

    def __init__(
        self,
        pool: Mempool,
        ports: AdmissionPorts,
        *,
        rules: Rules,
        domain: Domain,
        limits: BlockLimits,
        nonce_window_ms: int,
    ) -> None:
        self.counts: Final[Counter[str]] = Counter()
        self._pool = pool
        self._ports = ports
        self._rules = rules
        self._limits = limits
        self._checks = StateChecks(ports, nonce_window_ms=nonce_window_ms)
        self._signatures = SignatureChecks(domain)
        self._newest_ms = 0
        self._unkept: list[tuple[bytes, JournalEntry]] = []
        self._keeping: dict[bytes, trio.Event] = {}
        self._durable = trio.Event()
        self._recently_final: dict[bytes, None] = {}
        self._outbox: list[bytes] = []
        self._void: list[bytes] = []
        self._arrivals = trio.lowlevel.ParkingLot()
        self._unkept_filled = trio.Event()
        self._outbox_filled = trio.Event()
        self._void_found = trio.Event()

    # --- From users ------------------------------------------------------------------------------

    async def submit(self, raw: bytes) -> bytes:
        """Take a user's transaction; returns its hash once it is acknowledged (A2).

        Raises:
            UserError: `malformed`, `bad_signature`, `nonce_used`, `nonce_out_of_window`,
                `insufficient_balance`, `not_authorised`, `mempool_full`, or a word of
                `check_stateless`.
        """
        (outcome,) = await self.submit_many([raw])
        if isinstance(outcome, UserError):
            raise outcome
        return outcome

    async def submit_many(self, raws: Sequence[bytes]) -> list[bytes | UserError]:
        """Take several transactions of users with one wait for the disk.

        Returns:
            For each, in order, its hash or why it was refused.

        Raises:
            UserError: `too_many`; nothing was taken.
        """
        if len(raws) > SUBMIT_TRANSACTIONS_MAX:
            raise UserError("too_many", f"{len(raws)} at once, at most {SUBMIT_TRANSACTIONS_MAX}")
        read = [self._read(raw) for raw in raws]
        unchecked = [item for item in read if isinstance(item, Transaction)]
        checked = await self._signatures.check(unchecked)
        refusals = {id(item): refusal for item, refusal in zip(unchecked, checked, strict=True)}
        taken: dict[bytes, Transaction] = {}
        outcomes = [self._settle(item, refusals.get(id(item)), taken) for item in read]
        await self._acknowledge(list(taken.values()), outcomes)
        return outcomes

    def _read(self, raw: bytes) -> Transaction | bytes | UserError:
        """Do all checks before the signature (A1); returns the hash of a final transaction."""
        try:
            transaction = decode_transaction(raw)
            held = self._pool.get(transaction.hash)
            if held is not None:
                return held
            check_stateless(transaction, self._rules)
            self._checks.check_before_signature(transaction)
        except Malformed as error:
            return UserError("malformed", str(error))
        except UserError as error:
            return transaction.hash if self._is_spent(transaction, error) else error
        return transaction

    def _is_spent(self, transaction: Transaction, error: UserError) -> bool:
        """Whether it is refused only because this very transaction is final already."""
        if error.reason not in ("nonce_used", "nonce_out_of_window"):
            return False
        return transaction.hash in self._recently_final or self._ports.is_final(transaction.hash)

    def _settle(
        self,
        item: Transaction | bytes | UserError,
        refusal: UserError | None,
        taken: dict[bytes, Transaction],
    ) -> bytes | UserError:
        """Judge what depends on the signer; what must be made durable is added to `taken`."""
        try:
            if isinstance(item, UserError):
                raise item
            if refusal is not None:
                raise refusal
            if isinstance(item, bytes):
                return item
            if item.hash not in self._pool:
                self._checks.check_state(item, signer=item.signer)
                self._take(item)
        except UserError as error:
            if isinstance(item, Transaction) and self._is_spent(item, error):
                return item.hash
            self.counts[error.reason] += 1
            return error
        # A peer may have brought it before: then it is here, but not yet durable.
        if item.hash not in self._keeping and item.hash not in self._ports.journal:
            taken[item.hash] = item
        return item.hash

    async def _acknowledge(
        self, taken: Sequence[Transaction], outcomes: Sequence[bytes | UserError]
    ) -> None:
        """Return when all that is about to be acknowledged is durable (A2)."""
        if taken:
            self.counts["accepted"] += len(taken)
            self._send(taken)
            durable = self._durable
            self._unkept += [(t.hash, JournalEntry(self._newest_ms, t.raw)) for t in taken]
            self._keeping.update((transaction.hash, durable) for transaction in taken)
            self._unkept_filled.set()
        for outcome in outcomes:
            event = self._keeping.get(outcome) if isinstance(outcome, bytes) else None
            if event is not None:
                await event.wait()

    # --- From peers ------------------------------------------------------------------------------

    async def receive_frame(self, peer: str, frame: bytes) -> bool:
        """Take one frame of the data plane; say whether it had anything new in it.

        Raises:
            PeerFault: It is no frame, or as `receive`.
        """
        return await self.receive(peer, decode_frame(frame))

    async def receive(self, peer: str, raws: Sequence[bytes]) -> bool:
        """Take transactions from a peer (A3); say whether any was new.

        Raises:
            PeerFault: Too many, or one that an honest validator refuses; nothing was taken.
        """
        if len(raws) > FRAME_TRANSACTIONS_MAX:
            raise PeerFault(
                "too_many", f"{len(raws)} transactions", penalty=PENALTY_BAD_TRANSACTION
            )
        unknown = [raw for raw in raws if not self._is_known(raw)]
        try:
            transactions = [decode_transaction(raw) for raw in unknown]
            for transaction in transactions:
                check_stateless(transaction, self._rules)
            wanted = [t for t in transactions if self._is_wanted(t)]
            refusals = await self._signatures.check(wanted)
            for refusal in refusals:
                if refusal is not None:
                    raise refusal
        except Malformed as error:
            raise _fault("malformed", error) from None
        except UserError as error:
            log.info("bad_transaction", peer=peer, reason=error.reason)
            raise _fault(error.reason, error) from None
        taken = [self._take_from_peer(transaction) for transaction in wanted]
        return any(taken)

    def _is_wanted(self, transaction: Transaction) -> bool:
        """Whether a peer's transaction may count by what is known before its signature."""
        try:
            self._checks.check_before_signature(transaction)
        except UserError as error:
            self.counts[error.reason] += 1
            return False
        return True

    def _take_from_peer(self, transaction: Transaction) -> bool:
        try:
            self._checks.check_state(transaction, signer=transaction.signer)
            is_new = self._take(transaction)
        except UserError as error:
            self.counts[error.reason] += 1
            return False
        self.counts["from_peers"] += is_new
        return is_new

    async def check(self, raws: Sequence[bytes]) -> list[Transaction]:
        """Decode and verify the transactions of a block, without keeping them (A4).

        Raises:
            Malformed: One of them can never be part of a valid block.
        """
        transactions = [self._held(raw) or decode_transaction(raw) for raw in raws]
        for refusal in await self._signatures.check(transactions):
            if refusal is not None:
                raise Malformed(str(refusal))
        return transactions

    def _is_known(self, raw: bytes) -> bool:
        """Whether a peer's bytes are pending or were executed lately: it may lag behind."""
        if len(raw) > TRANSACTION_BYTES_MAX:
            return False
        transaction_hash = keccak256(raw)
        return transaction_hash in self._pool or transaction_hash in self._recently_final

    def _held(self, raw: bytes) -> Transaction | None:
        return self._pool.get(keccak256(raw)) if len(raw) <= TRANSACTION_BYTES_MAX else None

    def _take(self, transaction: Transaction) -> bool:
        """Put a checked transaction into the pool and wake who waits for it."""
        self._newest_ms = max(self._newest_ms, self._ports.now_ms())
        is_new = self._pool.add(transaction, received_ms=self._newest_ms)
        if is_new:
            self._arrivals.unpark_all()
        return is_new

    def _send(self, transactions: Iterable[Transaction]) -> None:
        self._outbox += [transaction.raw for transaction in transactions]
        self._outbox_filled.set()

    # --- For consensus ---------------------------------------------------------------------------

    def body(self, transaction_id: bytes) -> Transaction | None:
        """Return a held transaction."""
        return self._pool.get(transaction_id)

    def missing(self, ids: Iterable[bytes]) -> list[bytes]:
        """Return those that are not held."""
        return self._pool.missing(ids)

    async def wait_for(self, ids: Sequence[bytes]) -> None:
        """Return when all of these are held (the caller sets the deadline)."""
        while ids := self._pool.missing(ids):
            await self._arrivals.park()

    def newest_ms(self, ids: Iterable[bytes]) -> int | None:
        """Return when the newest of these arrived, as far as they are held."""
        return self._pool.newest_ms(ids)

    def spread(self, raws: Iterable[bytes]) -> None:
        """Queue the bytes of held transactions for the peers once more."""
        self._outbox += raws
        self._outbox_filled.set()

    async def changed(self) -> None:
        """Return after the next arrival of a transaction."""
        await self._arrivals.park()

    def select(self, excluded: Collection[bytes]) -> tuple[bytes, ...]:
        """Choose transactions for the next block (inclusion policy, P3)."""
        return self._pool.select(excluded, limits=self._limits, funded=self._ports.state.is_funded)

    def oldest_ms(self, excluded: Collection[bytes]) -> int | None:
        """Return when the oldest transaction arrived that the next block could take, if any."""
        return self._pool.oldest_ms(excluded, funded=self._ports.state.is_funded)

    def stale(self, excluded: Collection[bytes], *, before_ms: int, bytes_max: int) -> list[bytes]:
        """Return bytes of transactions that arrived before a time, for the leader (P3)."""
        return self._pool.stale(excluded, before_ms=before_ms, bytes_max=bytes_max)

    def executed(
        self,
        transactions: Sequence[Transaction],
        results: Sequence[TransactionResult],
        *,
        chain_time_ms: int,
    ) -> None:
        """Forget what a block executed and what can not count any more.

        Args:
            transactions: The block's, in body order.
            results: Their results, in the same order.
            chain_time_ms: The block's time.
        """
        left = self._pool.executed(transactions)
        left += self._pool.expire(chain_time_ms)
        # What has a result leaves the journal in the batch that stores the result.
        settled = {result.hash for result in results if result.code != IGNORED}
        void = [transaction.hash for transaction in left if transaction.hash not in settled]
        if void:
            self._forget(void)
        self._recently_final.update(dict.fromkeys(settled))
        while len(self._recently_final) > RECENTLY_FINAL_MAX:
            del self._recently_final[next(iter(self._recently_final))]

    def _forget(self, hashes: Iterable[bytes]) -> None:
        self._void += hashes
        self._void_found.set()

    # --- Life ------------------------------------------------------------------------------------

    async def restore(self, entries: Iterable[tuple[bytes, JournalEntry]]) -> Sequence[Transaction]:
        """Take back what was acknowledged before a restart.

        Args:
            entries: As `Journal.load` returns them.

        Returns:
            All of it, also what can not count any more: somebody may still ask what became of it.
        """
        acknowledged: list[Transaction] = []
        restored: list[Transaction] = []
        void: list[bytes] = []
        read = [(i, _restored(entry.raw)) for i, entry in entries]
        refusals = iter(await self._signatures.check([t for _, t in read if t is not None]))
        for transaction_hash, transaction in read:
            if transaction is None or next(refusals) is not None:
                log.warning("not_restored", hash=transaction_hash.hex(), reason="damaged")
                void.append(transaction_hash)
                continue
            acknowledged.append(transaction)
            if self._checks.is_void(transaction):
                log.info("not_restored", hash=transaction_hash.hex(), reason="void")
                void.append(transaction_hash)
                continue
            try:
                self._take(transaction)
            except UserError as error:
                # It stays in the journal, and is asked about as any other.
                log.warning("not_restored", hash=transaction_hash.hex(), reason=error.reason)
            else:
                restored.append(transaction)
        self._send(restored)
        self._forget(void)
        return acknowledged

    async def run(
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> NoReturn:
        """Make durable and send what users bring, and clean the journal, until cancelled.

        Raises:
            StorageFault: The disk failed or is full; nothing is acknowledged any more.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep)
            nursery.start_soon(self._broadcast)
            nursery.start_soon(self._clean_journal)
            task_status.started()
        raise AssertionError("a daemon task returned")

    async def _keep(self) -> NoReturn:
        """Write what arrived during one write with the next one: a hop and a sync for many."""
        while True:
            await self._unkept_filled.wait()
            entries, self._unkept = self._unkept, []
            durable, self._durable = self._durable, trio.Event()
            self._unkept_filled = trio.Event()
            # What has left the pool meanwhile is final or void, and needs no promise any more.
            needed = [entry for entry in entries if entry[0] in self._pool]
            await self._ports.journal.add(needed)
            durable.set()
            for transaction_hash, _ in entries:
                del self._keeping[transaction_hash]

    async def _broadcast(self) -> NoReturn:
        while True:
            await self._outbox_filled.wait()
            raws, self._outbox = self._outbox, []
            self._outbox_filled = trio.Event()
            for frame in encode_frames(raws):
                self._ports.broadcast(frame)
            await trio.sleep(BROADCAST_GAP_MS / 1000)

    async def _clean_journal(self) -> NoReturn:
        while True:
            await self._void_found.wait()
            hashes, self._void = self._void, []
            self._void_found = trio.Event()
            await self._ports.journal.remove(hashes)


def _fault(reason: str, error: Exception) -> PeerFault:
    return PeerFault(reason, str(error), penalty=PENALTY_BAD_TRANSACTION)


def _restored(raw: bytes) -> Transaction | None:
    """Decode what was acknowledged; what another version wrote may be unreadable."""
    try:
        return decode_transaction(raw)
    except Malformed:
        return None
