"""What `omninode stake` does: a request to the settlement contract, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from omninode.errors import ConfigError, UserError
from omninode.node.cli.settlement import (
    Document,
    check_coins,
    check_tokens,
    parse_amount,
    passed_on,
)
from omninode.node.cli.waiting import WAIT_DEADLINE_S, patient, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from omninode.crypto import SigningKey
    from omninode.node.cli.steps import Tell
    from omninode.node.client import RpcClient
    from omninode.node.funds.calls import Call
    from omninode.node.funds.chain import SettlementChain
    from omninode.node.funds.terms import SettlementTerms
    from omninode.node.funds.wallet import Wallet
    from omninode.node.home import Home

BONDED: Final = 1_000
UNBONDING: Final = 1_001
"""Subaccounts in which the exchange keeps stakes."""


@dataclass(frozen=True, slots=True)
class Access:
    """Whom a command asks.

    Attributes:
        client: A node, or an endpoint of the settlement chain.
        terms: The network's.
        is_node: Whether it is a node, which tells also what the exchange has.
    """

    client: RpcClient
    terms: SettlementTerms
    is_node: bool


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of the contract.

    Attributes:
        kind: In one word.
        signature: The contract's function.
        amount: Of the stake's asset as written, if one is named.
        brings: Whether the amount is brought along.
        identity: Of a validator to register.
        shown: More of it for people.
    """

    kind: str
    signature: str
    amount: str | None = None
    brings: bool = False
    identity: bytes = b""
    shown: Document = field(default_factory=dict)

    @property
    def what(self) -> str:
        """The request in words."""
        return f"the request to {self.kind}"


@contextmanager
def open_access(client: RpcClient, home: Home, *, is_named: bool) -> Iterator[Access]:
    """Open whom to ask: the node, or while a home's own does not run, its chain's endpoint.

    So a validator can be registered before its node has started.

    Args:
        client: The node to ask.
        home: The home of this call, with genesis and configuration.
        is_named: Whether the user named that node.

    Raises:
        UserError: Nobody answers.
    """
    from omninode.node.client import EndpointClient
    from omninode.node.config_file import load_config
    from omninode.node.funds.terms import settlement_terms
    from omninode.node.genesis_file import read_genesis

    access: Access | None = None
    try:
        access = Access(client, settlement_terms(client.call("omni_getGenesis")), is_node=True)
    except UserError as error:
        if is_named or error.reason != "node_unreachable" or not home.exists():
            raise
        endpoints = load_config(home.config, environment=os.environ).settlement.endpoints
        if not endpoints:
            error.hint = "name a running node of the network with --rpc"
            raise
    if access is not None:
        yield access
        return
    import msgspec

    genesis = read_genesis(home.genesis)
    answer = {"genesis": msgspec.to_builtins(genesis), "genesis_hash": "0x" + genesis.hash.hex()}
    with EndpointClient(str(endpoints[0])) as endpoint:
        yield Access(endpoint, settlement_terms(answer), is_node=False)


def read_identity(
    home: Home, terms: SettlementTerms, owner: bytes, password: Path | None
) -> tuple[bytes, Document]:
    """Return the signed identity of the validator in a home, and what to show of it.

    Raises:
        ConfigError: There is no validator in the home, or it is of another network.
        UserError: `wrong_password`.
    """
    from omninode.crypto import checksum_address
    from omninode.dex.staking.identity import sign_identity
    from omninode.node.config_file import load_config
    from omninode.node.genesis_file import read_genesis
    from omninode.node.keys.node_keys import load_node_keys

    home.require()
    if read_genesis(home.genesis).hash != terms.genesis_hash:
        raise ConfigError(
            f"the node in {home.path} is of another network than the one that was asked",
            hint="name a node of its network with --rpc, or another home with --home",
        )
    moniker = load_config(home.config, environment=os.environ).node.moniker
    keys = load_node_keys(home, validator=True, password_file=password)
    if keys.validator is None:
        raise ConfigError(f"no vote key in {home.path}", hint="`omninode init` makes one")
    beacon = keys.beacon
    identity = sign_identity(
        keys.validator,
        owner=owner,
        genesis_hash=terms.genesis_hash,
        peer_id=keys.identity.peer_id,
        moniker=moniker,
        beacon_key=b"" if beacon is None else beacon.public_key,
        beacon_proof=b"" if beacon is None else beacon.prove_possession(),
    )
    return identity, {
        "moniker": moniker,
        "validator": checksum_address(keys.validator.address),
        "peer_id": keys.identity.peer_id,
        "beacon_key": None if beacon is None else "0x" + beacon.public_key.hex(),
    }


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that could be sent now.

    Attributes:
        units: Its amount in base units.
        call: The contract's call.
        shown: The transaction, for whoever confirms it.
    """

    units: int
    call: Call
    shown: Document


async def plan_request(access: Access, key: SigningKey, request: Request, *, tell: Tell) -> Plan:
    """Work out a request's transaction; nothing is sent.

    Raises:
        UserError: The contract or the exchange would refuse it, or it can not be paid.
    """
    from omninode.crypto import checksum_address
    from omninode.node.funds.calls import stake_call

    terms = access.terms
    chain, wallet = _open(access, key, tell)
    units = await _check(chain, wallet, terms, request)
    arguments: list[object] = [] if request.amount is None else [units]
    if request.identity:
        arguments.append(request.identity)
    call = stake_call(terms.contract, request.signature, *arguments)
    stake, _ = terms.require_stake()
    amount = {} if request.amount is None else {"amount": f"{request.amount} {stake.asset.name}"}
    return Plan(
        units,
        call,
        {
            "request": request.kind,
            "owner": checksum_address(key.address),
            **amount,
            **request.shown,
            "chain_id": terms.chain_id,
            "to": checksum_address(terms.contract),
            "data": "0x" + call.data.hex(),
        },
    )


async def change_stake(
    access: Access, key: SigningKey, request: Request, plan: Plan, *, wait: bool, tell: Tell
) -> Document:
    """Send a planned request, and wait until the exchange has taken it.

    Returns:
        What `stake … --json` prints.

    Raises:
        UserError: `stake_refused` by the exchange; the contract refuses it; or it is in no block
            in time.
    """
    from omninode.crypto import checksum_address
    from omninode.node.funds.moving import approve_if_needed, send_stake_request

    terms = access.terms
    chain, wallet = _open(access, key, tell)
    before = _owned(access, key.address, BONDED) if access.is_node else 0
    approval = None
    if request.brings:
        tell("approving that the contract takes the stake")
        _, token = terms.require_stake()
        approval = await approve_if_needed(wallet, chain, token, terms.contract, plan.units)
    tell(f"sending {request.what}")
    mined = await send_stake_request(wallet, terms.contract, plan.call, what=request.what)
    document: Document = {
        "request": request.kind,
        "owner": checksum_address(key.address),
        "amount": request.amount,
        "deposit": mined.index,
        "approval": approval,
        "transaction": mined.hash,
        "block": mined.block,
        "state": "requested",
    }
    if wait and access.is_node:
        await _until_taken(access, chain, document, tell)
        if request.brings and _owned(access, key.address, BONDED) <= before:
            raise UserError(
                "stake_refused",
                f"the exchange took no stake from the transaction {mined.hash}: its tokens are "
                "the owner's on the exchange",
                hint="`omninode account show` has them; see that amount, keys and owner are right",
            )
        document["state"] = "taken"
    return document


def _open(access: Access, key: SigningKey, tell: Tell) -> tuple[SettlementChain, Wallet]:
    from omninode.node.funds.chain import SettlementChain
    from omninode.node.funds.wallet import Wallet

    chain = SettlementChain(patient(passed_on(access.client), tell))
    chain_id = access.terms.chain_id
    wallet = Wallet(key, chain.ask, chain_id=chain_id, receipt_deadline_s=WAIT_DEADLINE_S)
    return chain, wallet


async def _check(
    chain: SettlementChain, wallet: Wallet, terms: SettlementTerms, request: Request
) -> int:
    """Refuse early what can not be; returns the amount in base units."""
    from omninode.dex.decimals import format_units
    from omninode.node.funds.backing import check_contract
    from omninode.node.funds.calls import IS_REGISTERED, STAKE_TOKEN
    from omninode.node.funds.limits import STAKE_GAS

    stake, token = terms.require_stake()
    await check_contract(chain, terms)
    if await chain.read(terms.contract, STAKE_TOKEN) != int.from_bytes(token, "big"):
        raise UserError(
            "no_staking",
            "the settlement contract takes no stake of this network",
            hint="ask whoever runs the network",
        )
    units = 0 if request.amount is None else parse_amount(request.amount, stake.asset)
    if request.kind == "register":
        if units < stake.minimum:
            least = format_units(stake.minimum, stake.asset.decimals)
            raise UserError(
                "below_minimum",
                f"a validator stakes at least {least} {stake.asset.name}",
                hint="name more with --amount",
            )
        if await chain.read(terms.contract, IS_REGISTERED, wallet.address):
            raise UserError(
                "already_registered",
                "the account has registered a validator",
                hint="stake more with `omninode stake deposit`, or register from another account",
            )
    if request.brings:
        await check_tokens(chain, wallet.address, stake.asset, token, units)
    await check_coins(chain, wallet.address, wei=(await wallet.fees()).max_fee * STAKE_GAS)
    return units


async def _until_taken(
    access: Access, chain: SettlementChain, document: Document, tell: Tell
) -> None:
    """Wait until the exchange has taken the request."""
    index, block = document["deposit"], document["block"]
    params = {"address": document["owner"], "limit": 1}

    async def is_taken() -> bool:
        if int(access.client.call("omni_getDeposits", params)["credited_count"]) > index:
            return True
        behind = (await chain.newest()).number - block
        confirmations = access.terms.confirmations
        tell(f"request {index}: {min(behind, confirmations)} of {confirmations} blocks")
        return False

    await wait_until(
        is_taken,
        f"request {index} is in block {block} of the settlement chain, but not taken yet",
        hint="`omninode stake status` tells when it is; it needs nothing more from you",
    )


async def read_status(access: Access, owner: bytes, *, tell: Tell) -> Document:
    """Return what the contract and the exchange have of an owner's stake.

    Returns:
        What `stake status --json` prints.
    """
    from omninode.crypto import checksum_address
    from omninode.dex.decimals import format_units
    from omninode.node.funds.backing import check_contract
    from omninode.node.funds.calls import IS_REGISTERED, STAKE_CHECKPOINT, STAKE_OF
    from omninode.node.funds.chain import SettlementChain

    terms = access.terms
    stake, _ = terms.require_stake()
    chain = SettlementChain(patient(passed_on(access.client), tell))
    await check_contract(chain, terms)
    contract = {
        "registered": bool(await chain.read(terms.contract, IS_REGISTERED, owner)),
        "stake": format_units(
            await chain.read(terms.contract, STAKE_OF, owner), stake.asset.decimals
        ),
        "proven_by_checkpoint": await chain.read(terms.contract, STAKE_CHECKPOINT, owner) or None,
    }
    exchange: Document | None = None
    if access.is_node:
        exchange = {
            "bonded": format_units(_owned(access, owner, BONDED), stake.asset.decimals),
            "unbonding": format_units(_owned(access, owner, UNBONDING), stake.asset.decimals),
            **_standing(access, owner),
        }
    return {
        "owner": checksum_address(owner),
        "asset": stake.asset.name,
        "contract": contract,
        "exchange": exchange,
    }


def _owned(access: Access, owner: bytes, subaccount: int) -> int:
    """Return what an owner has staked in a subaccount of the exchange, in base units."""
    from omninode.crypto import checksum_address
    from omninode.dex.decimals import parse_units

    stake, _ = access.terms.require_stake()
    shown: Document = access.client.call("omni_getAccount", {"address": checksum_address(owner)})
    return sum(
        parse_units(balance["total"], stake.asset.decimals)
        for part in shown["subaccounts"]
        if part["subaccount"] == subaccount
        for balance in part["balances"]
        if balance["asset"] == stake.asset.name
    )


def _standing(access: Access, owner: bytes) -> Document:
    """Return how the owner's validator stands, where the node tells it."""
    from omninode.crypto import checksum_address

    try:
        found = access.client.call("omni_getParticipation", {"address": checksum_address(owner)})
    except UserError as error:
        if error.reason in {"method_not_found", "no_staking", "unknown_validator"}:
            return {"validator": None}
        raise
    return {"validator": found}
