"""The whole state of the exchange, in modules, and what a transaction brings to change it."""

from __future__ import annotations

from omninode.crypto import parse_address
from omninode.dex.accounts import Accounts
from omninode.dex.agents import Agents
from omninode.dex.bridge.state import Bridge
from omninode.dex.client_ids import ClientIds
from omninode.dex.fees import VALIDATOR_POOL, FeePots
from omninode.dex.genesis import Genesis
from omninode.dex.markets import Market, MarketSpec
from omninode.dex.nonces import Nonces
from omninode.dex.open_orders import OpenOrders
from omninode.dex.sealed.state import Sealed
from omninode.dex.staking.epochs import Epochs
from omninode.dex.staking.state import Staking


class State:
    """Everything that the app hash covers. Only the modules of this package change it.

    `validator_set` is the set of the current epoch, the only one whose word on deposits and
    checkpoints counts.
    """

    def __init__(self, genesis: Genesis) -> None:
        window_ms = genesis.consensus.nonce_window_ms
        self.genesis = genesis
        self.accounts = Accounts()
        self.open_orders = OpenOrders()
        self.nonces = Nonces(window_ms)
        self.client_ids = ClientIds(window_ms)
        self.agents = Agents()
        self.validator_set = genesis.validator_set
        self.bridge = Bridge(genesis)
        self.staking = Staking(genesis, self.accounts)
        self.sealed = Sealed()
        self.markets: dict[str, Market] = {
            name: Market(spec, self._pots(spec)) for name, spec in genesis.market_specs.items()
        }
        self.market_list: tuple[Market, ...] = tuple(self.markets.values())

    @property
    def epochs(self) -> Epochs:
        """Where the present epoch stands."""
        return self.staking.epochs

    def _pots(self, spec: MarketSpec) -> FeePots:
        """Return the balances that collect a market's fees."""
        fees = self.genesis.fees
        return FeePots(
            validators=self.accounts.account(VALIDATOR_POOL, 0).balance(spec.quote_asset),
            treasury=self.accounts.account(parse_address(fees.treasury), 0).balance(
                spec.quote_asset
            ),
            development=self.accounts.account(parse_address(fees.development), 0).balance(
                spec.quote_asset
            ),
            validators_ppm=fees.validators_ppm,
            development_ppm=fees.development_ppm,
        )


class Context:
    """One transaction at its place in a block.

    `permissions` is None for the account's own wallet key, which may do everything.
    """

    __slots__ = ("account", "height", "nonce", "permissions", "time_ms", "transaction_hash")

    def __init__(
        self,
        *,
        height: int,
        time_ms: int,
        account: bytes,
        nonce: int,
        transaction_hash: bytes,
        permissions: tuple[str, ...] | None,
    ) -> None:
        self.height = height
        self.time_ms = time_ms
        self.account = account
        self.nonce = nonce
        self.transaction_hash = transaction_hash
        self.permissions = permissions

    def may(self, permission: str) -> bool:
        """Whether the signer may do this kind of thing for the account."""
        return self.permissions is None or permission in self.permissions
