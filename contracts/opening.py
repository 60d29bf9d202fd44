"""Makes the parts that talk to the chain; the only way in to everything that needs web3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.confirmed import ConfirmedLog
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.errands import Errands
from omninode.contracts.follower import Follower
from omninode.contracts.ports import Call, Store
from omninode.contracts.relay import Relay
from omninode.contracts.sending import GasAccount
from omninode.contracts.service import ChainSide
from omninode.contracts.source import ContractTerms, Source
from omninode.crypto import SigningKey, parse_address
from omninode.dex.bridge.evm import validator_set_hash, validator_set_words
from omninode.dex.exchange import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainSettings:
    """What one node is told about its endpoints.

    Attributes:
        endpoints: Their URLs.
        poll_interval_s: Time between two questions for the newest block.
        request_timeout_s: Longest wait for an answer.
    """

    endpoints: Sequence[str]
    poll_interval_s: float
    request_timeout_s: float


def open_chain_side(
    settings: ChainSettings,
    exchange: Exchange,
    store: Store,
    *,
    column: bytes,
    payer: SigningKey | None,
    me: bytes | None,
    on_change: Callable[[], None],
    on_call: Callable[[Call], None],
) -> ChainSide:
    """Make follower and relay for the contract of genesis.

    Args:
        settings: What this node is told.
        exchange: For genesis and the newest certified checkpoint.
        store: The database.
        column: The byte its keys begin with.
        payer: The key of the gas account; `None` where nothing is sent.
        me: The address of the vote key, if there is one.
        on_change: Called when the chain has moved.
        on_call: Told about every call of an endpoint.

    Raises:
        ConfigError: The stored log is of another contract.
        StorageFault: The disk failed.
    """
    rules, bridge = exchange.rules, exchange.state.bridge
    domain, terms = bridge.domain, rules.settlement
    if terms is None:
        raise ValueError("a network without settlement")
    abi = SettlementAbi(domain.contract)
    sources = _open_sources(settings, exchange, abi, on_call)
    confirmed = ConfirmedLog(store, column=column, domain=domain, start_block=terms.start_block)
    follower = Follower(
        sources,
        abi=abi,
        confirmed=confirmed,
        confirmations=terms.confirmations,
        poll_interval_s=settings.poll_interval_s,
        on_change=on_change,
    )
    relay = None
    if payer is not None and me is not None:
        account = GasAccount(payer, store, column=column, chain_id=domain.chain_id)
        relay = _make_relay(account, exchange, me, abi=abi, follower=follower)
    return ChainSide(follower, confirmed, relay)


def _open_sources(
    settings: ChainSettings,
    exchange: Exchange,
    abi: SettlementAbi,
    on_call: Callable[[Call], None],
) -> list[Source]:
    rules, bridge = exchange.rules, exchange.state.bridge
    words, epoch = validator_set_words(rules.validator_set), rules.validator_set.epoch
    made_with = ContractTerms(
        tokens=tuple(parse_address(asset.token) for asset in rules.assets if asset.token),
        epoch=epoch,
        set_hash=validator_set_hash(epoch, words),
        stake_token=rules.stake_token,
        is_staking=rules.staking is not None and rules.stake_token is not None,
    )
    endpoints = [
        Endpoint(url, timeout_s=settings.request_timeout_s, on_call=on_call)
        for url in settings.endpoints
    ]
    return [
        Source(
            endpoint,
            abi=abi,
            domain=bridge.domain,
            terms=made_with,
            later_set_hash=bridge.handovers.set_hash,
        )
        for endpoint in endpoints
    ]


def _make_relay(
    account: GasAccount, exchange: Exchange, me: bytes, *, abi: SettlementAbi, follower: Follower
) -> Relay:
    bridge = exchange.state.bridge
    errands = Errands(
        abi,
        certified=lambda: bridge.checkpoints.certified,
        words=bridge.handovers.words_of,
        handover=bridge.handovers.after,
        proofs=bridge.stake_proofs.of,
    )
    return Relay(
        account, abi=abi, follower=follower, errands=errands, turn=partial(_turn, exchange, me)
    )


def _turn(exchange: Exchange, me: bytes) -> tuple[int | None, int]:
    """Return a validator's place in the current set, if it has one, and the set's size."""
    validators = exchange.state.validator_set
    return validators.index_of(me), len(validators.validators)
