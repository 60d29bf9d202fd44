"""What a network's genesis says of its settlement chain, as a user needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from omninode.crypto import checksum_address, parse_address
from omninode.errors import Malformed, UserError


@dataclass(frozen=True, slots=True)
class AssetTerms:
    """One asset; `token` is its contract on the settlement chain, `None` while it has none."""

    name: str
    decimals: int
    token: bytes | None


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
    """

    genesis_hash: bytes
    chain_id: int
    contract: bytes
    start_block: int
    confirmations: int
    assets: dict[str, AssetTerms]

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
        return SettlementTerms(
            genesis_hash=bytes.fromhex(answer["genesis_hash"].removeprefix("0x")),
            chain_id=int(genesis["settlement_chain_id"]),
            contract=parse_address(settlement["contract"]),
            start_block=int(settlement["start_block"]),
            confirmations=int(settlement["confirmations"]),
            assets={
                row["name"]: AssetTerms(
                    row["name"],
                    int(row["decimals"]),
                    parse_address(row["token"]) if row["token"] else None,
                )
                for row in genesis["assets"]
            },
        )
    except (KeyError, TypeError, ValueError, AttributeError, Malformed):
        raise UserError(
            "bad_response", "the node does not tell its genesis", hint="name another with --rpc"
        ) from None
