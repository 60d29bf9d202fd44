"""Genesis files: read, checked, hashed."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from exchange_world import CONTRACT, TOKENS, make_genesis, make_settled_genesis
from omninode.crypto import SigningKey, checksum_address, keccak256
from omninode.dex.exchange import Exchange
from omninode.dex.genesis import Genesis, parse_genesis
from omninode.dex.limits import GENESIS_BYTES_MAX
from omninode.errors import ConfigError


def changed(path: str, value: Any, genesis: Genesis | None = None) -> bytes:
    """Return the test genesis as a file with one value changed (or removed: `...`)."""
    document = json.loads((genesis or make_genesis()).to_json())
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place[parent]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return json.dumps(document).encode()


def test_a_file_is_read_back_as_it_was_written() -> None:
    genesis = make_genesis()
    again = parse_genesis(genesis.to_json())
    assert again == genesis
    assert again.hash == genesis.hash
    assert again.to_json() == genesis.to_json()


def test_the_hash_depends_on_values_and_not_on_layout() -> None:
    genesis = make_genesis()
    compact = json.dumps(json.loads(genesis.to_json()), sort_keys=True).encode()
    assert parse_genesis(compact).hash == genesis.hash
    assert parse_genesis(changed("settlement_chain_id", 1)).hash != genesis.hash
    assert parse_genesis(changed("balances.0.amount", "1000001")).hash != genesis.hash
    assert parse_genesis(changed("markets.0.maker_fee_ppm", 999)).hash != genesis.hash


def test_defaults_count_as_if_they_were_written() -> None:
    assert parse_genesis(changed("epochs", ...)).hash == make_genesis().hash


def test_the_validator_set_is_that_of_consensus() -> None:
    genesis = make_genesis()
    [validator] = genesis.validator_set.validators
    key = SigningKey(keccak256(b"validator"))
    assert (validator.address, validator.public_key) == (key.address, key.public_key)
    assert genesis.validator_set.total_power == 1
    assert genesis.validator_set.epoch == 0


def test_rules_are_what_transactions_are_checked_against() -> None:
    genesis = make_genesis()
    rules = genesis.market_rules("ETH-USDC")
    assert rules is not None
    assert (rules.price_decimals, rules.tick, rules.size_decimals, rules.lot) == (2, 1, 4, 1)
    assert genesis.market_rules("DOGE-USDC") is None
    assert (genesis.asset_decimals("ETH"), genesis.asset_decimals("DOGE")) == (18, None)


OTHER = SigningKey(keccak256(b"other"))


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("chain_id", "Bad Id", "chain_id"),
        ("chain_id", ..., "chain_id"),
        ("surprise", 1, "surprise"),
        ("genesis_time_ms", -1, "genesis_time_ms"),
        ("genesis_time_ms", 1.5, "genesis_time_ms"),
        ("consensus.nonce_window_ms", 0, "nonce_window_ms"),
        ("consensus.nonce_windows_ms", 1, "nonce_windows_ms"),
        ("fees.validators_ppm", 700_001, "fees"),
        ("fees.treasury", "0x00", "fees.treasury"),
        ("fees.treasury", "0x" + "ab" * 20, "fees.treasury: write it as 0x"),
        ("validators", [], "validators"),
        ("validators.0.power", 0, "power"),
        ("validators.0.public_key", "0x" + OTHER.public_key.hex(), "validators[0].public_key"),
        ("validators.0.public_key", "0x00", "validators[0].public_key"),
        ("validators.0.public_key", "0x" + "00" * 33, "validators[0].public_key"),
        ("validators.0.beacon_key", "0x00", "validators[0].beacon_key"),
        ("validators.0.beacon_key", "0xc0" + "00" * 47, "validators[0].beacon_key"),
        ("validators.0.beacon_key", "0x80" + "00" * 46 + "04", "validators[0].beacon_key"),
        ("assets.1.name", "USDC", "assets: USDC appears twice"),
        ("assets.0.decimals", 19, "decimals"),
        ("assets.0.token", "0x12", "assets[0].token"),
        ("assets.0.token", "0x" + "00" * 20, "assets[0].token: must not be the zero address"),
        ("markets.0.base", "DOGE", "markets[0]: there is no asset DOGE"),
        ("markets.0.name", "USDC-BTC", "markets[0].name"),
        ("markets.1.name", "BTC-USDC", "markets: BTC-USDC appears twice"),
        ("markets.0.tick", "0", "tick"),
        ("markets.0.tick", "0.010", "tick"),
        ("markets.0.tick", "0.0000000000000000001", "markets[0]: "),
        ("markets.0.lot", "0.000000001", "markets[0]: "),
        ("markets.0.min_notional", "0.0000001", "markets[0]: "),
        ("markets.0.max_notional", "x", "markets[0]: "),
        ("markets.0.reference_price", "100.001", "markets[0]: "),
        ("markets.0.maker_fee_ppm", 2_001, "markets[0].maker_fee_ppm"),
        ("balances.0.asset", "DOGE", "balances[0].asset"),
        ("balances.0.address", "0x" + "zz" * 20, "balances[0].address"),
        ("balances.0.amount", "0.0000001", "balances[0].amount"),
        ("balances.0.amount", "1e3", "amount"),
        ("balances.0.amount", "340282366920938463463374607431768", "balances[4].amount"),
        ("balances.0.subaccount", 1_000, "subaccount"),
        ("balances.4.address", None, "address"),
        ("limits.max_open_orders_per_account", 0, "max_open_orders_per_account"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(path: str, value: Any, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_genesis(changed(path, value))
    assert str(caught.value).startswith("genesis.json: ")
    assert named in str(caught.value)


def test_the_same_balance_twice_is_refused() -> None:
    document = json.loads(make_genesis().to_json())
    document["balances"].append(document["balances"][0])
    with pytest.raises(ConfigError, match="appears twice"):
        parse_genesis(json.dumps(document).encode())


USDC_TOKEN = checksum_address(TOKENS["USDC"])


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("settlement.contract", "0x12", "settlement.contract"),
        ("settlement.contract", checksum_address(CONTRACT).lower(), "settlement.contract: write"),
        ("settlement.contract", "0x" + "00" * 20, "settlement.contract: must not be the zero"),
        ("settlement.contract", USDC_TOKEN, "settlement.contract: is the token"),
        ("settlement.start_block", -1, "start_block"),
        ("settlement.confirmations", 0, "confirmations"),
        ("settlement.checkpoint_interval_ms", 0, "checkpoint_interval_ms"),
        ("settlement.surprise", 1, "surprise"),
        ("settlement_chain_id", 0, "settlement_chain_id"),
        ("assets.1.token", USDC_TOKEN, f"assets: {USDC_TOKEN} appears twice"),
    ],
)
def test_a_wrong_settlement_is_named_with_its_place(path: str, value: Any, named: str) -> None:
    genesis = make_settled_genesis()
    assert parse_genesis(genesis.to_json()) == genesis
    with pytest.raises(ConfigError) as caught:
        parse_genesis(changed(path, value, genesis))
    assert named in str(caught.value)


def test_a_settlement_has_at_most_the_validators_of_a_bitmap() -> None:
    make_settled_genesis((1,) * 256)
    with pytest.raises(ConfigError, match="at most 256"):
        make_settled_genesis((1,) * 257)


def test_tokens_stand_for_assets() -> None:
    genesis = make_settled_genesis()
    assert genesis.settlement_contract == CONTRACT
    assert make_genesis().settlement_contract is None
    assert genesis.asset_token("BTC") == TOKENS["BTC"]
    assert (genesis.asset_token("ETH"), genesis.asset_token("DOGE")) == (None, None)
    assert genesis.asset_by_token == {TOKENS["USDC"]: 0, TOKENS["BTC"]: 1, TOKENS["XOM"]: 3}
    assert genesis.supply[0] == 3_000_000 * 10**6


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b" " * (GENESIS_BYTES_MAX + 1)]
)
def test_what_is_no_genesis_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_genesis(data)


def test_the_first_app_hash_binds_the_genesis() -> None:
    one = Exchange.genesis(make_genesis())
    other = Exchange.genesis(parse_genesis(changed("chain_id", "other")))
    assert one.app_hash != other.app_hash
    assert one.app_hash == Exchange.genesis(make_genesis()).app_hash


def test_every_struct_of_the_file_refuses_unknown_keys() -> None:
    for field in msgspec.structs.fields(Genesis):
        kind = field.type
        for inner in getattr(kind, "__args__", (kind,)):
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                assert inner.__struct_config__.forbid_unknown_fields, inner
