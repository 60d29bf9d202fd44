"""What a network's genesis says of its settlement chain, as a user needs it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from omninode.crypto import checksum_address, parse_address
from omninode.dex.decimals import parse_units
from omninode.errors import Malformed, Rejected, UserError

DEFAULT_STAKE_ASSET: Final = "XOM"
"""What the contract takes as stake in a network whose genesis does not say."""


@dataclass(frozen=True, slots=True)
class AssetTerms:
    """One asset; `token` is its contract on the settlement chain, `None` while it has none."""

    name: str
    decimals: int
    token: bytes | None


@dataclass(frozen=True, slots=True)
class StakeTerms:
    """What is staked: its asset, the least stake in base units, and how long it comes back."""

    asset: AssetTerms
    minimum: int
    unbonding_ms: int


@dataclass(frozen=True, slots=True)
class SettlementTerms:
    """Where a network's money is.

    Attributes:
        genesis_hash: The network.
        chain_id: The settlement chain.
        contract: The contract of the exchange there.
        start_block: The first block that can have its events.
        confirmations: So many blocks make a deposit count.
        assets: By name, in the order of genesis.
        stake_token: The token that the contract takes as stake, if the network has it.
        stake: What staking asks for; `None` in a network without.
    """

    genesis_hash: bytes
    chain_id: int
    contract: bytes
    start_block: int
    confirmations: int
    assets: dict[str, AssetTerms]
    stake_token: bytes | None = None
    stake: StakeTerms | None = None

    def require_stake(self) -> tuple[StakeTerms, bytes]:
        """Return what staking asks for, and the token.

        Raises:
            UserError: `no_staking`.
        """
        if self.stake is None or self.stake_token is None:
            raise UserError(
                "no_staking",
                "the network has no staking: its validators are those of its genesis",
                hint="ask a node of another network, with --rpc",
            )
        return self.stake, self.stake_token

    def token_of(self, asset: str) -> tuple[AssetTerms, bytes]:
        """Return an asset that has a token, and the token.

        Raises:
            UserError: `unknown_asset`, or `no_token`.
        """
        terms = self.assets.get(asset)
        if terms is None:
            known = ", ".join(self.assets)
            raise UserError("unknown_asset", f"no asset {asset[:32]}", hint=f"there are {known}")
        if terms.token is None:
            raise UserError(
                "no_token",
                f"{asset} has no token on the settlement chain",
                hint="it can only be moved on the exchange, with `omninode account transfer`",
            )
        return terms, terms.token

    def check_receiver(self, address: bytes) -> None:
        """Refuse an address that nobody could ever move funds from.

        Raises:
            UserError: `invalid_recipient`.
        """
        tokens = {asset.token for asset in self.assets.values()}
        whose = "the zero address" if not any(address) else None
        whose = "the settlement contract" if address == self.contract else whose
        whose = "a token's contract" if address in tokens else whose
        if whose is not None:
            raise UserError(
                "invalid_recipient",
                f"{checksum_address(address)} is {whose}: nobody could ever move funds from there",
                hint="name an account whose key you know",
            )


def settlement_terms(answer: Mapping[str, Any]) -> SettlementTerms:
    """Read the terms from an answer of `omni_getGenesis`.

    Raises:
        UserError: `no_settlement`: the network has no settlement chain; `bad_response`.
    """
    try:
        genesis = answer["genesis"]
        settlement = genesis.get("settlement")
        if settlement is None:
            raise UserError(
                "no_settlement",
                f"the network {genesis['chain_id']} has no settlement chain",
                hint="its balances are in its genesis alone",
            )
        assets = _assets(genesis["assets"])
        staking = genesis.get("staking")
        staked = assets.get(DEFAULT_STAKE_ASSET if staking is None else staking["asset"])
        return SettlementTerms(
            genesis_hash=bytes.fromhex(answer["genesis_hash"].removeprefix("0x")),
            chain_id=int(genesis["settlement_chain_id"]),
            contract=parse_address(settlement["contract"]),
            start_block=int(settlement["start_block"]),
            confirmations=int(settlement["confirmations"]),
            assets=assets,
            stake_token=None if staked is None else staked.token,
            stake=None if staking is None or staked is None else _stake(staking, staked),
        )
    except (KeyError, TypeError, ValueError, AttributeError, Malformed, Rejected):
        raise UserError(
            "bad_response", "the node does not tell its genesis", hint="name another with --rpc"
        ) from None


def _assets(rows: Iterable[Mapping[str, Any]]) -> dict[str, AssetTerms]:
    return {
        row["name"]: AssetTerms(
            row["name"],
            int(row["decimals"]),
            parse_address(row["token"]) if row["token"] else None,
        )
        for row in rows
    }


def _stake(staking: Mapping[str, Any], asset: AssetTerms) -> StakeTerms:
    minimum = parse_units(staking["minimum"], asset.decimals)
    return StakeTerms(asset, minimum, int(staking["unbonding_ms"]))
