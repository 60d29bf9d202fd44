"""Validators that bring no checkpoints to the chain, because they can not or do not want to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account

from omninode.crypto import checksum_address
from real_settlement import DEPLOYER, WEI_PER_GAS, SettledNetwork, settled_network

pytestmark = pytest.mark.slow

PENNILESS, UNWILLING = 1, 2
ROUNDS = 5


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SettledNetwork]:
    """One of four validators has no coins for gas."""
    folder = tmp_path_factory.mktemp("settled")
    with settled_network(folder, without_coins=[PENNILESS]) as made:
        made.heal()
        yield made


def give_coins(network: SettledNetwork, address: bytes) -> None:
    chain, text = network.chain, checksum_address(DEPLOYER.address)
    fields = {
        "type": 2,
        "chainId": network.genesis.settlement_chain_id,
        "nonce": int(chain.call("eth_getTransactionCount", text, "pending"), 16),
        "to": checksum_address(address),
        "value": 10**19,
        "gas": 21_000,
        "maxFeePerGas": WEI_PER_GAS,
        "maxPriorityFeePerGas": WEI_PER_GAS,
    }
    raw = Account.sign_transaction(fields, DEPLOYER.secret).raw_transaction.to_0x_hex()
    transaction = chain.call("eth_sendRawTransaction", raw)
    receipt = network.wait_for(lambda: chain.call("eth_getTransactionReceipt", transaction))
    assert receipt["status"] == "0x1"


def test_others_take_over_from_those_who_bring_none(network: SettledNetwork) -> None:
    poor, unwilling = network.validators[PENNILESS], network.validators[UNWILLING]
    others = [node for node in network.validators if node not in (poor, unwilling)]
    network.gate(unwilling).hold_sends()
    network.chain.wait_height(network.chain.height() + 2)  # what was on its way is there
    before = {one.transaction for one in network.contract.checkpoints()}
    network.wait_checkpoints(ROUNDS)
    brought = {one.transaction for one in network.contract.checkpoints()} - before
    assert brought <= {name for node in others for name in network.gate(node).passed}
    assert not network.gate(poor).sent

    gas_account = checksum_address(poor.identity.relayer)
    network.wait_for(lambda: gas_account in network.settlement(poor)["detail"])
    assert network.settlement(poor)["state"] == "following"
    assert poor.events("checkpoints_not_sent")
    network.assert_settled()

    give_coins(network, poor.identity.relayer)
    network.assert_relays(poor)
    network.wait_for(lambda: network.settlement(poor)["detail"] == "")
    network.assert_relays(unwilling)
    network.assert_settled()
