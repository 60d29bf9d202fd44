"""What must always hold in the exchange; a breach is our own defect and stops the node.

`check_block` looks at what one block changed and runs after every block; `check_state` looks at
everything and runs every `INVARIANT_SCAN_BLOCKS` blocks, after loading, and in tests.
"""

from __future__ import annotations

from omninode.dex.accounts import Account
from omninode.dex.book import check_book
from omninode.dex.bridge.checks import check_bridge
from omninode.dex.staking.checks import check_staking
from omninode.dex.state import State
from omninode.errors import BrokenInvariant


def check_block(state: State) -> None:
    """Check conservation over the changed balances and that no changed book is crossed.

    What deposits brought and withdrawals took is the bridge's to say.

    Raises:
        BrokenInvariant: Funds were made or lost, a balance is negative, or a book is crossed.
    """
    change: dict[int, int] = {}
    for balance in state.accounts.dirty:
        if balance.free < 0 or balance.held < 0:
            raise BrokenInvariant(f"the balance 0x{balance.key.hex()} is negative")
        difference = balance.free + balance.held - balance.before
        change[balance.asset] = change.get(balance.asset, 0) + difference
    for asset, minted in state.bridge.minted.items():
        change[asset] = change.get(asset, 0) - minted
    for asset, difference in change.items():
        if difference:
            name = state.genesis.assets[asset].name
            raise BrokenInvariant(f"a block made {difference} base units of {name}")
    for market in state.market_list:
        book = market.book
        if book.touched and book.bid_prices and book.would_cross(True, book.bid_prices[-1]):
            raise BrokenInvariant(f"the book of {market.spec.name} is crossed")


def supplies(state: State) -> dict[int, int]:
    """Add up all balances, by asset index."""
    total: dict[int, int] = {}
    for owner in state.accounts.owners.values():
        for account in owner.subaccounts.values():
            for asset, balance in account.balances.items():
                total[asset] = total.get(asset, 0) + balance.free + balance.held
    return total


def check_state(state: State, supply: dict[int, int]) -> None:
    """Check everything: supply, every book, and that what is held is what open orders hold.

    Args:
        state: The state between two blocks.
        supply: What `supplies` was at genesis; deposits and withdrawals since then are added.

    Raises:
        BrokenInvariant: The first breach found.
    """
    now = supplies(state)
    flows = state.bridge.flows
    for asset in sorted(now.keys() | supply.keys() | flows.keys()):
        expected = supply.get(asset, 0)
        if asset in flows:
            expected += flows[asset].credited - flows[asset].withdrawn
        if now.get(asset, 0) != expected:
            name = state.genesis.assets[asset].name
            raise BrokenInvariant(f"{now.get(asset, 0)} units of {name}, not {expected}")
    check_bridge(state)
    check_staking(state)
    resting = sum(check_book(market.book) for market in state.market_list)
    if resting != len(state.open_orders.by_id):
        raise BrokenInvariant(f"{resting} orders rest, {len(state.open_orders.by_id)} are open")
    for owner in state.accounts.owners.values():
        open_orders = 0
        for account in owner.subaccounts.values():
            open_orders += len(account.orders)
            _check_holds(state, account)
        if open_orders != owner.open_orders:
            raise BrokenInvariant(f"0x{owner.address.hex()} miscounts its open orders")


def _check_holds(state: State, account: Account) -> None:
    """Check that each balance holds exactly what the account's orders and bonds hold."""
    held: dict[int, int] = {}
    orders = list(account.orders.values())
    for entry in state.sealed.of_account(account):
        quote = state.markets[entry.market].spec.quote_asset
        held[quote] = held.get(quote, 0) + entry.bond
        if entry.order is not None:
            orders.append(entry.order)
    for order in orders:
        spec = state.markets[order.market].spec
        asset = spec.quote_asset if order.is_buy else spec.base_asset
        amount = order.hold if order.is_buy else order.remaining * spec.base_per_lot
        held[asset] = held.get(asset, 0) + amount
    for asset, balance in account.balances.items():
        if balance.held != held.get(asset, 0) or balance.free < 0:
            name = state.genesis.assets[asset].name
            raise BrokenInvariant(
                f"0x{account.key.hex()} holds {balance.held} {name} units wrongly"
            )
