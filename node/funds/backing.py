"""Whether the tokens in the settlement contract are what the exchange owes, to the last unit.

Rules
    B1. At every height h of the exchange and every block B of the settlement chain, for each asset:

            vault(B) = exchange(h) + withdrawals requested up to h - withdrawn up to B
                                   + deposited up to B - credited up to h

        The four flows are what is under way between the two sides. Less in the vault is a
        shortfall; more is a surplus, which anybody can make by sending tokens to the contract.
    B2. h is read first, then B, so nothing is credited that was not deposited by then: the identity
        alone would take a deposit that never was for one under way, less than nothing. Nor is
        anything paid out that was not requested; but who requests after h may be paid by B, so a
        negative flow is read again until it can not be that.
    B3. exchange(h) is itself what genesis, deposits and withdrawals have made of it.
    B4. If the chain changes while its balances are read, they are read again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

from omninode.crypto import checksum_address
from omninode.dex.decimals import format_units, parse_units
from omninode.errors import ChainError, OmniNodeError, UserError
from omninode.node.funds.calls import BALANCE_OF, GENESIS_HASH
from omninode.node.funds.chain import BlockId, SettlementChain
from omninode.node.funds.ledger import Ledger
from omninode.node.funds.limits import COMPARISON_PAUSE_S, COMPARISONS_MAX
from omninode.node.funds.terms import AssetTerms, SettlementTerms


@dataclass(frozen=True, slots=True)
class AssetBacking:
    """One asset on both sides, in base units.

    Attributes:
        exchange: All balances there.
        expected: What they should be by genesis, deposits and withdrawals (B3).
        deposits_under_way: Deposited and not credited.
        withdrawals_under_way: Requested and not paid out.
        vault: Tokens in the contract; `None` if the asset has no token.
    """

    asset: AssetTerms
    exchange: int
    expected: int
    deposits_under_way: int
    withdrawals_under_way: int
    vault: int | None

    @property
    def surplus(self) -> int:
        """Tokens beyond what is owed; negative is a shortfall. 0 where there is no token."""
        if self.vault is None:
            return 0
        owed = self.exchange + self.deposits_under_way + self.withdrawals_under_way
        return self.vault - owed

    @property
    def is_right(self) -> bool:
        """Whether all is backed, and the exchange's own sums agree."""
        return self.surplus >= 0 and self.exchange == self.expected and not self.is_ahead

    @property
    def is_ahead(self) -> bool:
        """Whether more was credited than deposited, or more paid out than requested (B2)."""
        return self.deposits_under_way < 0 or self.withdrawals_under_way < 0


@dataclass(frozen=True, slots=True)
class Backing:
    """Both sides at one height and one block."""

    terms: SettlementTerms
    height: int
    block: BlockId
    assets: tuple[AssetBacking, ...]

    @property
    def is_right(self) -> bool:
        """Whether every asset is backed."""
        return all(asset.is_right for asset in self.assets)

    @property
    def is_equal(self) -> bool:
        """Whether both sides are equal to the last unit: no shortfall, no surplus."""
        return self.is_right and all(asset.surplus == 0 for asset in self.assets)

    def document(self) -> dict[str, Any]:
        """Return it JSON-ready, with amounts in human units."""
        return {
            "ok": self.is_right,
            "equal": self.is_equal,
            "height": self.height,
            "chain_id": self.terms.chain_id,
            "contract": checksum_address(self.terms.contract),
            "block": self.block.number,
            "block_hash": self.block.hash,
            "assets": [_row(asset) for asset in self.assets],
        }


def _row(row: AssetBacking) -> dict[str, Any]:
    asset = row.asset

    def text(units: int) -> str:
        return format_units(units, asset.decimals)

    return {
        "asset": asset.name,
        "token": None if asset.token is None else checksum_address(asset.token),
        "exchange": text(row.exchange),
        "expected": text(row.expected),
        "deposits_under_way": text(row.deposits_under_way),
        "withdrawals_under_way": text(row.withdrawals_under_way),
        "vault": None if row.vault is None else text(row.vault),
        "shortfall": text(max(0, -row.surplus)),
        "surplus": text(max(0, row.surplus)),
        "ok": row.is_right,
    }


async def check_contract(chain: SettlementChain, terms: SettlementTerms) -> None:
    """Make sure that an endpoint shows the network's own contract.

    Raises:
        UserError: `wrong_chain` or `wrong_contract`.
        ChainError: There is no contract.
    """
    chain_id = await chain.chain_id()
    if chain_id != terms.chain_id:
        raise UserError(
            "wrong_chain",
            f"the endpoint is of chain {chain_id}, the network settles on chain {terms.chain_id}",
            hint="name an endpoint of that chain",
        )
    genesis_hash = await chain.read(terms.contract, GENESIS_HASH)
    if genesis_hash != int.from_bytes(terms.genesis_hash, "big"):
        raise UserError(
            "wrong_contract",
            f"the contract {checksum_address(terms.contract)} belongs to another network",
            hint="check that node and endpoint belong together",
        )


async def read_backing(
    read_supply: Callable[[], Awaitable[dict[str, Any]]],
    chain: SettlementChain,
    ledger: Ledger,
    terms: SettlementTerms,
) -> Backing:
    """Compare both sides, also while money moves (B1 to B4).

    Args:
        read_supply: Returns an answer of `omni_getSupply`.
        chain: The settlement chain.
        ledger: Its events, read up to now or not.
        terms: The network's.

    Raises:
        UserError: The node does not answer, or strangely.
        ChainError: The chain does not answer, or leaves events out.
    """
    await ledger.advance()  # most of the reading, so that h and B are near each other
    for _ in range(COMPARISONS_MAX):
        backing = await _read_once(read_supply, chain, ledger, terms)
        has_changed = await chain.block(backing.block.number) != backing.block  # B4
        if not has_changed and not any(asset.is_ahead for asset in backing.assets):
            return backing
        await trio.sleep(COMPARISON_PAUSE_S)
    if has_changed:
        raise ChainError("the settlement chain changes while it is read", retryable=True)
    return backing


async def _read_once(
    read_supply: Callable[[], Awaitable[dict[str, Any]]],
    chain: SettlementChain,
    ledger: Ledger,
    terms: SettlementTerms,
) -> Backing:
    supply = await read_supply()  # B2
    block = await ledger.advance()
    try:
        rows = {row["asset"]: row for row in supply["assets"]}
        height = int(supply["height"])
        asked = [(asset, _sums(asset, rows[asset.name])) for asset in terms.assets.values()]
    except (KeyError, TypeError, ValueError, OmniNodeError):
        raise UserError(
            "bad_response", "the node does not tell its supply", hint="name another with --rpc"
        ) from None
    assets = []
    for asset, sums in asked:
        vault = None
        if asset.token is not None:
            vault = await chain.read(asset.token, BALANCE_OF, terms.contract, block=block.number)
        assets.append(_compare(asset, sums, ledger, vault))
    return Backing(terms, height, block, tuple(assets))


@dataclass(frozen=True, slots=True)
class _Sums:
    """What the exchange says of one asset, in base units."""

    exchange: int
    genesis: int
    credited: int
    withdrawn: int


def _sums(asset: AssetTerms, row: dict[str, Any]) -> _Sums:
    names = ("exchange", "genesis", "credited", "withdrawn")
    return _Sums(*(parse_units(row[name], asset.decimals) for name in names))


def _compare(asset: AssetTerms, sums: _Sums, ledger: Ledger, vault: int | None) -> AssetBacking:
    expected = sums.genesis + sums.credited - sums.withdrawn
    if asset.token is None:
        return AssetBacking(asset, sums.exchange, expected, 0, 0, None)
    return AssetBacking(
        asset,
        exchange=sums.exchange,
        expected=expected,
        deposits_under_way=ledger.deposited[asset.token] - sums.credited,
        withdrawals_under_way=sums.withdrawn - ledger.withdrawn[asset.token],
        vault=vault,
    )
