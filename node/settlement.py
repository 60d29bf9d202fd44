"""Puts the settlement part together, where genesis names a contract.

What talks to the chain needs web3, a second of start and 60 MB: it is loaded only where endpoints
are configured.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

import structlog

from omninode.contracts.service import ChainSide, SettlementService
from omninode.contracts.statements import Statements
from omninode.dex.genesis import Genesis
from omninode.errors import ConfigError
from omninode.node.chain_state import ChainState
from omninode.node.condition import NodeCondition
from omninode.node.config import SettlementSection
from omninode.node.keys.node_keys import NodeKeys
from omninode.node.local_genesis import DEV_CHAIN_IDS
from omninode.node.metrics import Metrics
from omninode.storage import keys as columns

log = structlog.get_logger(subsystem="settlement")


def open_settlement(
    config: SettlementSection,
    state: ChainState,
    keys: NodeKeys,
    *,
    statements: Statements | None,
    condition: NodeCondition,
    metrics: Metrics,
) -> SettlementService | None:
    """Make the settlement part, or nothing in a network without one.

    Raises:
        ConfigError: The chain is a developer's and that is not allowed here, or the stored log is
            of another contract.
        StorageFault: The disk failed.
    """
    rules = state.exchange.rules
    if rules.settlement is None:
        return None
    check_chain(rules, config)
    key = keys.validator
    service = SettlementService(
        state.exchange,
        key=key,
        statements=statements,
        is_behind=condition.is_catching_up,
    )
    if config.endpoints:
        payer = keys.relayer if config.relay else None
        if config.relay and key is not None and payer is None:
            log.warning("no_relayer_key", hint="`omninode init --force` makes keys/relayer.json")
        chain = _open_chain_side(config, state, keys, service=service, metrics=metrics)
        service.attach(chain)
    metrics.watch_settlement(service)
    return service


def _open_chain_side(
    config: SettlementSection,
    state: ChainState,
    keys: NodeKeys,
    *,
    service: SettlementService,
    metrics: Metrics,
) -> ChainSide:
    opening = import_module("omninode.contracts.opening")
    settings = opening.ChainSettings(
        endpoints=config.endpoints,
        poll_interval_s=config.poll_interval_ms / 1000,
        request_timeout_s=config.request_timeout_ms / 1000,
    )
    return cast(
        ChainSide,
        opening.open_chain_side(
            settings,
            state.exchange,
            state.database,
            column=columns.SETTLEMENT,
            payer=keys.relayer if config.relay else None,
            me=None if keys.validator is None else keys.validator.address,
            on_change=service.changed,
            on_call=metrics.endpoint_called,
        ),
    )


def check_chain(genesis: Genesis, config: SettlementSection) -> None:
    """Refuse a developer's chain as the place of real money.

    Raises:
        ConfigError: It is one, and `settlement.allow_dev_chain` is not set.
    """
    if (
        genesis.settlement is not None
        and genesis.settlement_chain_id in DEV_CHAIN_IDS
        and not config.allow_dev_chain
    ):
        raise ConfigError(
            f"the settlement chain {genesis.settlement_chain_id} is a developer's chain: "
            "anybody can make money on it",
            hint="for a test network set settlement.allow_dev_chain = true",
        )
