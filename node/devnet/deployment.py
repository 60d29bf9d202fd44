"""The contracts of a devnet on its settlement chain: planned before genesis, deployed at its start.

Rules
    D1. Everything is a list of transactions of one deployer, numbered by its nonces from
        `first_nonce`. So the contracts' addresses are known before anything is sent (genesis names
        them, and the contract's constructor names genesis), and what the chain has counted of the
        deployer's nonces is done: a deployment that was cut off goes on where it stopped.
    D2. The vault gets tokens for exactly what genesis credits; the contract takes its stake asset.
    D3. At the end the contract must say the genesis hash, and the vault must hold what D2 says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import trio
from eth_abi.abi import encode

from omninode.contracts.artifacts import load_artifact
from omninode.crypto import SigningKey, checksum_address, keccak256, parse_address
from omninode.dex.bridge.evm import ZERO_ADDRESS, validator_set_hash, validator_set_words
from omninode.dex.decimals import parse_units
from omninode.dex.genesis import Genesis, GenesisAsset
from omninode.errors import ChainError, OmniNodeError, UserError
from omninode.node.devnet.limits import DEPLOY_DEADLINE_S, DEPLOY_POLL_S, DEPLOY_RESEND_S
from omninode.node.funds.calls import (
    BALANCE_OF,
    GENESIS_HASH,
    Call,
    mint,
    transfer,
)
from omninode.node.funds.chain import Ask, SettlementChain
from omninode.node.funds.wallet import Fees, Wallet

WEI: Final = 10**18
"""Base units of the chain's own coin."""

XOM: Final = "XOM"
XOM_SUPPLY: Final = 1_000_000_000
"""All that there ever is; the deployer holds what nobody was given."""

DEPLOYER_COINS: Final = 1_000_000
"""What a chain of our own gives to the deployer."""


@dataclass(frozen=True, slots=True)
class Coins:
    """The chain's own coins that each account, and each relayer, gets for gas, in wei."""

    account: int
    relayer: int


PLENTY: Final = Coins(account=100 * WEI, relayer=1_000 * WEI)
"""On a chain of our own; a checkpoint costs some hundred thousand gas: enough for years."""

FEW: Final = Coins(account=WEI // 100, relayer=WEI // 20)
"""On somebody else's chain, where the deployer had to be given them."""

PURSE: Final = (("USDC", "100000"), ("BTC", "1"), ("ETH", "10"), ("XOM", "10000"))
"""Tokens on the chain of each account that gets some."""

_COIN_GAS: Final = 21_000
_TOKEN_GAS: Final = 120_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the contracts will be (D1).

    Attributes:
        deployer: The account that deploys them.
        first_nonce: The number of its first transaction of these.
        tokens: Addresses by asset, in the order of genesis.
        contract: The exchange's contract.
    """

    deployer: bytes
    first_nonce: int
    tokens: dict[str, bytes]
    contract: bytes


def plan_contracts(deployer: bytes, first_nonce: int, assets: Sequence[GenesisAsset]) -> Plan:
    """Say where contracts will be that this account deploys next, tokens first."""
    tokens = {
        asset.name: created_address(deployer, first_nonce + place)
        for place, asset in enumerate(assets)
    }
    contract = created_address(deployer, first_nonce + len(tokens))
    return Plan(deployer, first_nonce, tokens, contract)


def created_address(deployer: bytes, nonce: int) -> bytes:
    """Return the address of the contract that a transaction makes: a hash of the RLP of both."""
    number = nonce.to_bytes((nonce.bit_length() + 7) // 8, "big")
    if nonce == 0 or nonce >= 0x80:
        number = bytes([0x80 + len(number)]) + number
    both = bytes([0x80 + len(deployer)]) + deployer + number
    return keccak256(bytes([0xC0 + len(both)]) + both)[12:]


def deployment_calls(
    genesis: Genesis,
    plan: Plan,
    *,
    purses: Sequence[bytes],
    relayers: Sequence[bytes],
    coins: Coins = PLENTY,
) -> list[Call]:
    """Return all transactions, in their order (D1).

    Args:
        genesis: The network's; names the contracts.
        plan: Where they will be.
        purses: Accounts that get coins and tokens.
        relayers: Accounts that get coins.
        coins: How many.
    """
    return [
        *(_token(asset, plan.deployer) for asset in genesis.assets),
        _settlement(genesis, plan),
        *_fill_vault(genesis, plan),
        *_fill_purses(genesis, plan, purses),
        *(Call(to, value=coins.account, gas=_COIN_GAS) for to in purses),
        *(Call(to, value=coins.relayer, gas=_COIN_GAS) for to in relayers),
    ]


def _token(asset: GenesisAsset, deployer: bytes) -> Call:
    if asset.name == XOM:
        supply = XOM_SUPPLY * 10**asset.decimals
        return _contract("XOM", ("address", "uint256"), (deployer, supply))
    return _contract(
        "TestToken",
        ("string", "string", "uint8", "address"),
        (f"Test {asset.name}", asset.name, asset.decimals, deployer),
    )


def _settlement(genesis: Genesis, plan: Plan) -> Call:
    validators = genesis.validator_set
    words = validator_set_words(validators)
    return _contract(
        "Settlement",
        ("bytes32", "uint64", "bytes32", "address[]", "address"),
        (
            genesis.hash,
            validators.epoch,
            validator_set_hash(validators.epoch, words),
            list(plan.tokens.values()),
            genesis.stake_token or ZERO_ADDRESS,
        ),
    )


def _contract(name: str, kinds: Sequence[str], arguments: Sequence[Any]) -> Call:
    return Call(None, load_artifact(name).bytecode + encode(kinds, arguments))


def vault_of(genesis: Genesis) -> dict[str, int]:
    """Return the tokens that back what genesis credits, in base units by asset (D2)."""
    return {name: genesis.supply.get(place, 0) for name, place in genesis.asset_index.items()}


def _fill_vault(genesis: Genesis, plan: Plan) -> Iterator[Call]:
    for asset, amount in vault_of(genesis).items():
        yield _give(asset, plan, plan.contract, amount)


def _fill_purses(genesis: Genesis, plan: Plan, purses: Sequence[bytes]) -> Iterator[Call]:
    for asset, amount in PURSE:
        units = parse_units(amount, genesis.assets[genesis.asset_index[asset]].decimals)
        for to in purses:
            yield _give(asset, plan, to, units)


def _give(asset: str, plan: Plan, to: bytes, amount: int) -> Call:
    token = plan.tokens[asset]
    call = transfer(token, to, amount) if asset == XOM else mint(token, to, amount)
    return Call(call.to, call.data, gas=_TOKEN_GAS)


async def deploy(
    ask: Ask, key: SigningKey, genesis: Genesis, plan: Plan, calls: Sequence[Call]
) -> int:
    """Do what is not done yet (D1), and look at the result (D3).

    Args:
        ask: An endpoint of the chain.
        key: The deployer's.
        genesis: The network's.
        plan: Where the contracts will be.
        calls: All transactions, from `deployment_calls`.

    Returns:
        How many transactions were sent; 0 if all was done before.

    Raises:
        UserError: `deployer_needs_coins`, `no_progress`, `wrong_contract`.
        ChainError: The chain refuses a transaction.
    """
    chain = SettlementChain(ask)
    wallet = Wallet(key, ask, chain_id=genesis.settlement_chain_id)
    done = await _done(ask, plan)
    missing = max(0, len(calls) - done)
    if missing:
        fees = await wallet.fees()
        with trio.move_on_after(DEPLOY_DEADLINE_S) as scope:
            await _send_rest(ask, wallet, plan, calls, fees)
        if scope.cancelled_caught:
            raise UserError(
                "no_progress",
                f"the contracts are not deployed after {DEPLOY_DEADLINE_S:.0f} s",
                hint="the chain's log is in its folder",
            )
    await _check(chain, genesis, plan, is_new=missing > 0)
    return missing


async def _done(ask: Ask, plan: Plan) -> int:
    count = await ask("eth_getTransactionCount", [checksum_address(plan.deployer), "latest"])
    return int(count, 16) - plan.first_nonce


async def _send_rest(
    ask: Ask, wallet: Wallet, plan: Plan, calls: Sequence[Call], fees: Fees
) -> None:
    """Send what is not in a block, again after a while, until all is."""
    while (done := await _done(ask, plan)) < len(calls):
        for place in range(max(0, done), len(calls)):
            nonce = plan.first_nonce + place
            await _send_one(wallet, calls[place], nonce=nonce, fees=fees)
        with trio.move_on_after(DEPLOY_RESEND_S):
            await _until_done(ask, plan, len(calls))


async def _until_done(ask: Ask, plan: Plan, count: int) -> None:
    while True:
        if await _done(ask, plan) >= count:
            return
        await trio.sleep(DEPLOY_POLL_S)


async def _send_one(wallet: Wallet, call: Call, *, nonce: int, fees: Fees) -> None:
    try:
        transaction = await wallet.sign(call, nonce=nonce, fees=fees, what="a contract")
        await wallet.send(transaction, what="a contract")
    except UserError as error:
        if "insufficient funds" in str(error).lower():
            address = checksum_address(wallet.address)
            raise UserError(
                "deployer_needs_coins",
                f"{address} can not pay for the contracts on the settlement chain",
                hint=f"send coins to {address}, then start again",
            ) from None
        # One with this nonce waits already, of an earlier start; it will be in a block, or is
        # sent again.
        if await wallet.next_nonce() <= nonce:
            raise


async def _check(chain: SettlementChain, genesis: Genesis, plan: Plan, *, is_new: bool) -> None:
    """Look at the result (D3); the vault only while nothing else has moved it."""
    try:
        found = await chain.read(plan.contract, GENESIS_HASH)
    except ChainError:
        found = None
    if found != int.from_bytes(genesis.hash, "big"):
        raise UserError(
            "wrong_contract",
            f"the contract of this devnet is not at {checksum_address(plan.contract)}",
            hint="the chain was changed from outside; `omninode devnet --reset` starts anew",
        )
    for asset, amount in vault_of(genesis).items() if is_new else ():
        vault = await chain.read(plan.tokens[asset], BALANCE_OF, plan.contract)
        if vault != amount:
            raise UserError(
                "wrong_vault",
                f"the contract holds {vault} units of {asset}, not {amount}",
                hint="`omninode devnet --reset` starts anew",
            )


def plan_of(genesis: Genesis, deployer: bytes, first_nonce: int) -> Plan:
    """Return the plan by which a genesis was made.

    Raises:
        UserError: `no_settlement`: the genesis has none, or of another plan.
    """
    plan = plan_contracts(deployer, first_nonce, genesis.assets)
    named = genesis.settlement
    tokens: Mapping[str, str] = {asset.name: asset.token for asset in genesis.assets}
    try:
        same = named is not None and parse_address(named.contract) == plan.contract
        same = same and all(parse_address(tokens[name]) == to for name, to in plan.tokens.items())
    except OmniNodeError:
        same = False
    if not same:
        raise UserError("no_settlement", "the genesis of this devnet names other contracts")
    return plan
