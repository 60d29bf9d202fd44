"""A seeded mix of every action through `exchange_world`; run as a script it prints what came out.

Used to compare two builds of the engine: `python exchange_flow.py BLOCKS SEED`.
"""

from __future__ import annotations

import json
import random
import sys

from exchange_world import (
    ALICE,
    BOB,
    BTC,
    CAROL,
    ETH,
    VALIDATORS,
    XOM,
    Log,
    World,
    deposit,
    make_settled_genesis,
    order,
)
from omninode.crypto import keccak256
from omninode.dex import book
from omninode.dex.actions import (
    Action,
    ApproveAgent,
    Batch,
    CancelAll,
    CancelOrder,
    ReplaceOrder,
    RevokeAgent,
    SignCheckpoint,
    Transfer,
    Withdraw,
)
from omninode.dex.decimals import format_units
from omninode.dex.transaction import Transaction

TRADERS = (ALICE, BOB, CAROL)
AGENTS = tuple(keccak256(bytes([n]))[-20:] for n in range(3))
MARKETS = ((BTC, 10_000, 2, 8, 10_000_000), (ETH, 300_000, 2, 4, 1_000), (XOM, 10_000, 4, 0, 50))
"""Name, middle price in ticks, digits of prices and sizes, largest size in lots."""


class Flow:
    """Draws actions that mostly make sense: some cross, some are refused, some come twice."""

    def __init__(self, seed: int, *, settled: bool = False) -> None:
        self.rng = random.Random(seed)
        self.world = World(make_settled_genesis() if settled else None)
        self.names = 0
        self.log = Log(self.world.exchange.rules.hash)
        self.is_settled = settled

    def place(self) -> Action:
        rng = self.rng
        market, middle, price_digits, size_digits, most = rng.choice(MARKETS)
        is_buy = rng.random() < 0.5
        away = rng.choice((1, 1, 2, 3, 5, 8, -1, -4)) * middle // 1_000
        kind = rng.choice(("gtc",) * 6 + ("ioc", "fok", "post_only", "market"))
        price = format_units(middle - away if is_buy else middle + away, price_digits)
        self.names += 1
        return order(
            "buy" if is_buy else "sell",
            format_units(rng.randrange(1, most), size_digits),
            "" if kind == "market" else price,
            market=market,
            tif={"post_only": "gtc", "market": "ioc"}.get(kind, kind),
            post_only=kind == "post_only",
            client_id=f"id-{self.names}" if rng.random() < 0.2 else "",
        )

    def change(self, trader: bytes) -> Action:
        rng = self.rng
        account = self.world.exchange.state.accounts.find(trader, 0)
        orders = list(account.orders.values()) if account else []
        if not orders:
            return CancelOrder(0, b"", f"id-{rng.randrange(1 + self.names)}")
        chosen = rng.choice(orders)
        if rng.random() < 0.6:
            return CancelOrder(0, chosen.order_id, "")
        spec = self.world.exchange.rules.market_specs[chosen.market]
        size = max(1, chosen.size + rng.choice((-1, -1, 0, 1)) * chosen.size // 3)
        return ReplaceOrder(
            0,
            chosen.market,
            chosen.order_id,
            "",
            format_units(size * spec.lot, spec.size_decimals),
            format_units(
                (chosen.price + rng.choice((0, 0, 7, -7))) * spec.tick, spec.price_decimals
            ),
        )

    def other(self, trader: bytes) -> Action:
        rng = self.rng
        return rng.choice(
            (
                CancelAll(0, rng.choice(("", BTC, ETH, XOM))),
                Transfer(
                    0, rng.choice(TRADERS), rng.randrange(2), "USDC", str(rng.randrange(1, 99))
                ),
                ApproveAgent(
                    rng.choice(AGENTS), "bot", ("trade", "cancel"), self.world.now_ms + 5_000
                ),
                RevokeAgent(rng.choice(AGENTS)),
                Batch(
                    (CancelOrder(0, b"", f"id-{rng.randrange(1 + self.names)}"),),
                    tuple(a for a in (self.change(trader),) if isinstance(a, ReplaceOrder)),
                    (self.place(), self.place()),  # type: ignore[arg-type]
                ),
            )
        )

    def withdraw(self) -> Action:
        rng = self.rng
        asset = rng.choice(("USDC", "BTC", "ETH", "XOM"))
        return Withdraw(rng.randrange(2), asset, str(rng.randrange(1, 40)), rng.choice(AGENTS))

    def attestation(self) -> Action:
        """A validator's word: mostly the truth, of more or less of it, from here or there."""
        rng, credited = self.rng, self.world.exchange.state.bridge.deposits.credited.count
        for _ in range(rng.randrange(3)):
            token = rng.choice(("USDC", "BTC", "XOM", b"\7" * 20))
            self.log.add(deposit(rng.choice(TRADERS), rng.randrange(1, 10**9), token))
        log, end = self.log, len(self.log.deposits)
        if rng.random() < 0.15:
            log = Log(log.hashes[0], log.deposits[: rng.randrange(max(0, end - 3), end + 1)])
            log.add(deposit(rng.choice(AGENTS), rng.randrange(1, 9)))
            end = len(log.deposits)
        if not end:
            return SignCheckpoint(1, bytes(65))
        end = max(1, end - rng.choice((0, 0, 1)))
        start = min(end, max(0, credited - rng.choice((0, 0, 0, 1, 5))))
        return log.attestation(start, end)

    def settlement(self) -> list[Transaction]:
        """Draw what traders and validators ask of the settlement in one block."""
        rng, world = self.rng, self.world
        body = [
            world.transaction(rng.choice(TRADERS), self.withdraw()) for _ in range(rng.randrange(2))
        ]
        pending = list(world.exchange.state.bridge.checkpoints.pending)
        for validator in range(4):
            if rng.random() < 0.3:
                body.append(world.transaction(VALIDATORS[validator].address, self.attestation()))
            if pending and rng.random() < 0.3:
                body.append(world.sign(validator, rng.choice(pending)))
        return body

    def block(self) -> None:
        rng = self.rng
        body = []
        for _ in range(rng.randrange(12)):
            trader = rng.choice(TRADERS)
            draw = rng.random()
            if draw < 0.65:
                action = self.place()
            elif draw < 0.92:
                action = self.change(trader)
            else:
                action = self.other(trader)
            agent = rng.choice(AGENTS) if rng.random() < 0.1 else b""
            body.append(self.world.transaction(trader, action, agent=agent))
            if rng.random() < 0.02:
                body.append(body[0])
        if self.is_settled:
            body += self.settlement()
        self.world.seed = self.world.exchange.app_hash
        self.world.apply(*body, after_ms=rng.choice((20, 50, 50, 3_000)))


def main() -> None:
    blocks, seed = int(sys.argv[1]), int(sys.argv[2])
    flow = Flow(seed, settled=True)
    for _ in range(blocks):
        flow.block()
    exchange = flow.world.exchange
    answer = {
        "app_hash": exchange.app_hash.hex(),
        "trades": sum(market.trades for market in exchange.state.market_list),
        "open_orders": len(exchange.state.open_orders.by_id),
        "deposits": exchange.state.bridge.deposits.credited.count,
        "withdrawals": exchange.state.bridge.withdrawals.count,
        "checkpoints": exchange.state.bridge.checkpoints.number,
        "engine": book.__file__,
    }
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
