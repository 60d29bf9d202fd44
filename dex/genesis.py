"""Genesis: the rules and the first balances of a network, as `genesis.json` has them.

Rules
    G1. `hash` is keccak256 over the canonical msgpack array of all fields in declared order, so it
        depends on the values and not on how the file is laid out. Everything that is signed binds
        it (PROTOCOL.md P1).
    G2. Every value has one text: EIP-55 addresses, lower-case hex, canonical decimals
        (`dex.decimals`).
    G3. Numbers are in human units here; `markets.MarketSpec` has them in ticks, lots and base
        units.
    G4. The supply of each asset fits 128 bits, stakes counted; later only deposits add to it, as
        long as it does, and withdrawals take from it.

Everything that a network agrees on before its first block is here, and nothing else is: what one
node chooses for itself is in `omninode.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Final

import coincurve
import msgspec

from omninode.bls import is_public_key
from omninode.consensus.types import (
    FIRST_SCORE,
    FULL_SCORE,
    VALIDATORS_MAX,
    Validator,
    ValidatorSet,
)
from omninode.crypto import (
    address_of,
    checksum_address,
    keccak256,
    parse_address,
    tagged_hash,
)
from omninode.dex.actions import PPM, Name, Positive, Subaccount
from omninode.dex.bridge.limits import SETTLEMENT_VALIDATORS_MAX
from omninode.dex.decimals import (
    AMOUNT_LIMIT,
    DECIMAL_CHARS_MAX,
    DECIMAL_PATTERN,
    DECIMALS_MAX,
    parse_units,
)
from omninode.dex.limits import GENESIS_BYTES_MAX
from omninode.dex.markets import MarketSpec
from omninode.dex.sealed.terms import GenesisSealed
from omninode.encoding import encode
from omninode.errors import ConfigError, Malformed, Rejected

ChainId = Annotated[
    str, msgspec.Meta(min_length=1, max_length=48, pattern=r"\A[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?\Z")
]
Hex = Annotated[str, msgspec.Meta(max_length=256, pattern=r"\A(?:0x(?:[0-9a-f]{2})+)?\Z")]
AddressText = Annotated[str, msgspec.Meta(min_length=42, max_length=42)]
Amount = Annotated[str, msgspec.Meta(max_length=DECIMAL_CHARS_MAX, pattern=DECIMAL_PATTERN)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
AtLeastOne = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Rate = Annotated[int, msgspec.Meta(ge=0, le=PPM)]
Decimals = Annotated[int, msgspec.Meta(ge=0, le=DECIMALS_MAX)]

ASSETS_MAX: Final = 1_000
MARKETS_MAX: Final = 1_000


class ConsensusParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides whether a block and its transactions are valid."""

    block_bytes_max: AtLeastOne = 2 * 1024 * 1024
    block_transactions_max: AtLeastOne = 5_000
    nonce_window_ms: AtLeastOne = 30_000


class EpochParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When the validator set may change (P6), in finalized block time."""

    epoch_ms: AtLeastOne = 600_000
    min_epoch_blocks: AtLeastOne = 100
    max_power_change_ppm: Rate = 100_000


class AccountLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one account may use; transactions per block is inclusion policy (P3)."""

    max_open_orders_per_account: AtLeastOne = 5_000
    max_transactions_per_account_per_block: AtLeastOne = 1_000


class FeeShares(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where trading fees go; the shares make one million, the treasury takes what is left."""

    treasury: AddressText
    development: AddressText
    validators_ppm: Rate = 700_000
    treasury_ppm: Rate = 200_000
    development_ppm: Rate = 100_000


class GenesisValidator(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One validator of the first epoch.

    With staking, `power` units of the stake's asset are bonded for `owner` at genesis, beside what
    `balances` say; without an owner they are the vote key's own.
    """

    moniker: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    address: AddressText
    public_key: Hex
    peer_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    power: AtLeastOne
    beacon_key: Hex = ""
    owner: Annotated[str, msgspec.Meta(max_length=42)] = ""


class GenesisSettlement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contract on the settlement chain that holds the exchange's tokens.

    `start_block` is the first block that can hold its logs; a block counts once `confirmations`
    follow it. A checkpoint is made every `checkpoint_interval_ms` of block time.
    """

    contract: AddressText
    start_block: Count
    confirmations: AtLeastOne = 12
    checkpoint_interval_ms: AtLeastOne = 60_000


class GenesisStaking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a validator stakes and earns; with it the set changes from epoch to epoch (P6).

    A stake of `asset` is at least `minimum` and comes back `unbonding_ms` after it was asked for.
    The account `reserve` pays `inflation_ppm` a year of the asset's supply outside of it, as long
    as it can; without a reserve there is no inflation. Who has less than `jail_votes_ppm` of an
    epoch's votes goes to jail.
    """

    asset: Name = "XOM"
    minimum: Positive = "1000"
    unbonding_ms: AtLeastOne = 1_814_400_000
    inflation_ppm: Rate = 20_000
    reserve: Annotated[str, msgspec.Meta(max_length=42)] = ""
    jail_votes_ppm: Rate = 200_000


class GenesisAsset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An asset; `token` is its contract on the settlement chain, empty while it has none.

    An asset's base units are its token's: both have the same `decimals`.
    """

    name: Name
    decimals: Decimals
    token: str = ""


class GenesisMarket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A spot market; `max_notional` and the price band are off when empty or 0.

    A limit price must lie within `price_band_ppm` of the last trade, before the first trade of
    `reference_price`.
    """

    name: Name
    base: Name
    quote: Name
    tick: Positive
    lot: Positive
    min_notional: Amount = "0"
    max_notional: str = ""
    maker_fee_ppm: Rate = 1_000
    taker_fee_ppm: Rate = 2_000
    price_band_ppm: Count = 0
    reference_price: str = ""


class GenesisBalance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one subaccount owns at height 0, in human units."""

    address: AddressText
    asset: Name
    amount: Positive
    subaccount: Subaccount = 0


class Genesis(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The whole file; made by `parse_genesis`, or in code and then checked by `check_genesis`."""

    chain_id: ChainId
    settlement_chain_id: Count
    genesis_time_ms: Count
    fees: FeeShares
    validators: tuple[GenesisValidator, ...]
    assets: tuple[GenesisAsset, ...]
    markets: tuple[GenesisMarket, ...]
    balances: tuple[GenesisBalance, ...]
    protocol_version: AtLeastOne = 1
    consensus: ConsensusParams = ConsensusParams()
    epochs: EpochParams = EpochParams()
    limits: AccountLimits = AccountLimits()
    settlement: GenesisSettlement | None = None
    staking: GenesisStaking | None = None
    sealed: GenesisSealed = GenesisSealed()

    @cached_property
    def hash(self) -> bytes:
        """The genesis hash (G1)."""
        return keccak256(encode(_values(self)))

    @cached_property
    def validator_set(self) -> ValidatorSet:
        """The validators of epoch 0, in the file's order."""
        return ValidatorSet(
            epoch=0,
            validators=tuple(
                Validator(
                    address=parse_address(validator.address),
                    public_key=bytes.fromhex(validator.public_key[2:]),
                    beacon_key=bytes.fromhex(validator.beacon_key[2:]),
                    peer_id=validator.peer_id,
                    moniker=validator.moniker,
                    power=validator.power,
                    weight=validator.power * (FULL_SCORE + FIRST_SCORE),
                )
                for validator in self.validators
            ),
            seed=tagged_hash("omni/seed/0", self.hash),
        )

    @cached_property
    def market_specs(self) -> dict[str, MarketSpec]:
        """The markets in integers, by name, in the file's order."""
        return {market.name: self.market_spec(place) for place, market in enumerate(self.markets)}

    @cached_property
    def asset_index(self) -> dict[str, int]:
        """An asset's place in the file, by which records name it."""
        return {asset.name: place for place, asset in enumerate(self.assets)}

    @cached_property
    def supply(self) -> dict[int, int]:
        """What all balances of each asset make in base units, by asset index."""
        supply: dict[int, int] = {}
        for entry in self.balances:
            asset = self.asset_index[entry.asset]
            amount = parse_units(entry.amount, self.assets[asset].decimals)
            supply[asset] = supply.get(asset, 0) + amount
        if self.staking is not None:
            asset = self.asset_index[self.staking.asset]
            unit = 10 ** self.assets[asset].decimals
            staked = sum(validator.power for validator in self.validators) * unit
            supply[asset] = supply.get(asset, 0) + staked
        return supply

    def market_spec(self, index: int) -> MarketSpec:
        """Turn one market into integers.

        Raises:
            Malformed: A number that can not be counted.
            Rejected: A number finer than its unit.
        """
        market = self.markets[index]
        base, quote = self.asset_index[market.base], self.asset_index[market.quote]
        return MarketSpec(
            index,
            name=market.name,
            base=market.base,
            quote=market.quote,
            base_asset=base,
            quote_asset=quote,
            base_decimals=self.assets[base].decimals,
            quote_decimals=self.assets[quote].decimals,
            tick_text=market.tick,
            lot_text=market.lot,
            min_notional_text=market.min_notional,
            max_notional_text=market.max_notional,
            reference_price_text=market.reference_price,
            maker_ppm=market.maker_fee_ppm,
            taker_ppm=market.taker_fee_ppm,
            band_ppm=market.price_band_ppm,
        )

    def market_rules(self, name: str) -> MarketSpec | None:
        """Return a market's grid, or None (`dex.transaction.Rules`)."""
        return self.market_specs.get(name)

    def asset_decimals(self, name: str) -> int | None:
        """Return an asset's decimals, or None (`dex.transaction.Rules`)."""
        index = self.asset_index.get(name)
        return None if index is None else self.assets[index].decimals

    @cached_property
    def asset_by_token(self) -> dict[bytes, int]:
        """The place of the asset that a token stands for, by the token's address."""
        return {
            parse_address(asset.token): place
            for place, asset in enumerate(self.assets)
            if asset.token
        }

    def asset_token(self, name: str) -> bytes | None:
        """Return an asset's token, or None (`dex.transaction.Rules`)."""
        index = self.asset_index.get(name)
        token = "" if index is None else self.assets[index].token
        return parse_address(token) if token else None

    @property
    def stake_token(self) -> bytes | None:
        """Token of what is staked, or None; without staking that of its default asset."""
        return self.asset_token((self.staking or GenesisStaking()).asset)

    @cached_property
    def settlement_contract(self) -> bytes | None:
        """Address of the settlement contract, or None (`dex.transaction.Rules`)."""
        return None if self.settlement is None else parse_address(self.settlement.contract)

    def to_json(self) -> bytes:
        """Write the file: two spaces of indentation, every field, a newline at the end."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def parse_genesis(data: bytes, *, source: str = "genesis.json") -> Genesis:
    """Read and check a genesis file.

    Args:
        data: The file's bytes.
        source: Its name, for messages.

    Raises:
        ConfigError: Not JSON, an unknown or missing key, or a value that can not be; the message
            names the place.
    """
    if len(data) > GENESIS_BYTES_MAX:
        raise ConfigError(f"{source}: {len(data)} bytes, at most {GENESIS_BYTES_MAX} allowed")
    try:
        genesis = msgspec.json.decode(data, type=Genesis)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: {error}") from None
    check_genesis(genesis, source=source)
    return genesis


def check_genesis(genesis: Genesis, *, source: str = "genesis") -> None:
    """Check what types can not say: names that must exist, keys that must fit, sums.

    Raises:
        ConfigError: The first thing wrong, with its place.
    """
    try:
        _check_fees(genesis.fees)
        _check_validators(genesis.validators)
        _check_assets(genesis.assets)
        _check_markets(genesis)
        _check_balances(genesis)
        _check_settlement(genesis)
        _check_staking(genesis)
    except _WrongValue as error:
        raise ConfigError(f"{source}: {error}") from None


class _WrongValue(Exception):
    """What is wrong in a genesis, and where."""


def _values(value: object) -> object:
    """Turn structs into arrays of their fields, all the way down (G1)."""
    if isinstance(value, msgspec.Struct):
        return [_values(item) for item in msgspec.structs.astuple(value)]
    if isinstance(value, tuple):
        return [_values(item) for item in value]
    return value


def _check_address(text: str, place: str) -> bytes:
    try:
        address = parse_address(text)
    except Malformed as error:
        raise _WrongValue(f"{place}: {error}") from None
    if checksum_address(address) != text:
        raise _WrongValue(f"{place}: write it as {checksum_address(address)}")
    return address


def _check_distinct(values: Iterable[object], place: str) -> None:
    seen: set[object] = set()
    for value in values:
        if value in seen:
            raise _WrongValue(f"{place}: {value} appears twice")
        seen.add(value)


def _check_fees(fees: FeeShares) -> None:
    _check_address(fees.treasury, "fees.treasury")
    _check_address(fees.development, "fees.development")
    total = fees.validators_ppm + fees.treasury_ppm + fees.development_ppm
    if total != PPM:
        raise _WrongValue(f"fees: the shares make {total} ppm, must be {PPM}")


def _check_validators(validators: tuple[GenesisValidator, ...]) -> None:
    if not 1 <= len(validators) <= VALIDATORS_MAX:
        raise _WrongValue(f"validators: {len(validators)} of them, must be 1 to {VALIDATORS_MAX}")
    for place, validator in enumerate(validators):
        path = f"validators[{place}]"
        address = _check_address(validator.address, f"{path}.address")
        key = bytes.fromhex(validator.public_key[2:])
        try:
            owner = address_of(coincurve.PublicKey(key)) if len(key) == 33 else b""
        except ValueError:
            owner = b""
        if owner != address:
            raise _WrongValue(
                f"{path}.public_key: not the compressed secp256k1 key of {validator.address}"
            )
        if validator.beacon_key and not is_public_key(bytes.fromhex(validator.beacon_key[2:])):
            raise _WrongValue(f"{path}.beacon_key: must be empty or a BLS key, 48 bytes of hex")
    _check_distinct((validator.address for validator in validators), "validators")
    _check_distinct((validator.peer_id for validator in validators), "validators")
    _check_distinct((v.beacon_key for v in validators if v.beacon_key), "validators")


def _check_assets(assets: tuple[GenesisAsset, ...]) -> None:
    if not 1 <= len(assets) <= ASSETS_MAX:
        raise _WrongValue(f"assets: {len(assets)} of them, must be 1 to {ASSETS_MAX}")
    _check_distinct((asset.name for asset in assets), "assets")
    for place, asset in enumerate(assets):
        if asset.token and not any(_check_address(asset.token, f"assets[{place}].token")):
            raise _WrongValue(f"assets[{place}].token: must not be the zero address")
    _check_distinct((asset.token for asset in assets if asset.token), "assets")


def _check_markets(genesis: Genesis) -> None:
    if len(genesis.markets) > MARKETS_MAX:
        raise _WrongValue(f"markets: {len(genesis.markets)} of them, at most {MARKETS_MAX}")
    _check_distinct((market.name for market in genesis.markets), "markets")
    for place, market in enumerate(genesis.markets):
        path = f"markets[{place}]"
        for side in (market.base, market.quote):
            if side not in genesis.asset_index:
                raise _WrongValue(f"{path}: there is no asset {side}")
        if market.base == market.quote or market.name != f"{market.base}-{market.quote}":
            raise _WrongValue(f"{path}.name: must be BASE-QUOTE of two assets, not {market.name}")
        if market.maker_fee_ppm > market.taker_fee_ppm:
            raise _WrongValue(f"{path}.maker_fee_ppm: must not be above taker_fee_ppm")
        try:
            genesis.market_spec(place)
            genesis.sealed.least_bond(genesis.market_spec(place))
        except (Malformed, Rejected) as error:
            raise _WrongValue(f"{path}: {error}") from None


def _check_balances(genesis: Genesis) -> None:
    _check_distinct(
        ((entry.address, entry.subaccount, entry.asset) for entry in genesis.balances), "balances"
    )
    supply: dict[str, int] = {}
    for place, entry in enumerate(genesis.balances):
        path = f"balances[{place}]"
        _check_address(entry.address, f"{path}.address")
        decimals = genesis.asset_decimals(entry.asset)
        if decimals is None:
            raise _WrongValue(f"{path}.asset: there is no asset {entry.asset}")
        try:
            amount = parse_units(entry.amount, decimals)
        except (Malformed, Rejected) as error:
            raise _WrongValue(f"{path}.amount: {error}") from None
        supply[entry.asset] = supply.get(entry.asset, 0) + amount
        if supply[entry.asset] >= AMOUNT_LIMIT:  # G4
            raise _WrongValue(f"{path}.amount: more than 2**128 units of {entry.asset} in all")


def _check_settlement(genesis: Genesis) -> None:
    settlement = genesis.settlement
    if settlement is None:
        return
    contract = _check_address(settlement.contract, "settlement.contract")
    if not any(contract):
        raise _WrongValue("settlement.contract: must not be the zero address")
    if contract in genesis.asset_by_token:
        raise _WrongValue("settlement.contract: is the token of an asset")
    if not genesis.settlement_chain_id:
        raise _WrongValue("settlement_chain_id: must be that of the settlement contract's chain")
    if len(genesis.validators) > SETTLEMENT_VALIDATORS_MAX:
        raise _WrongValue(
            f"validators: {len(genesis.validators)} of them, the settlement contract takes at most "
            f"{SETTLEMENT_VALIDATORS_MAX}"
        )


def _check_staking(genesis: Genesis) -> None:
    staking = genesis.staking
    if staking is None:
        if any(validator.owner for validator in genesis.validators):
            raise _WrongValue("validators: an owner is somebody's who stakes")
        return
    decimals = genesis.asset_decimals(staking.asset)
    if decimals is None:
        raise _WrongValue(f"staking.asset: there is no asset {staking.asset}")
    try:
        parse_units(staking.minimum, decimals)
    except (Malformed, Rejected) as error:
        raise _WrongValue(f"staking.minimum: {error}") from None
    if staking.reserve:
        _check_address(staking.reserve, "staking.reserve")
    for place, validator in enumerate(genesis.validators):
        if validator.owner:
            _check_address(validator.owner, f"validators[{place}].owner")
    _check_distinct((entry.owner or entry.address for entry in genesis.validators), "validators")
    if genesis.supply[genesis.asset_index[staking.asset]] >= AMOUNT_LIMIT:  # G4
        raise _WrongValue(f"staking: more than 2**128 units of {staking.asset} in all")
