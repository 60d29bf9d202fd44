"""web3.py with a node as its endpoint, in front of the dev chain: it works as with any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from eth_account import Account
from web3 import Web3
from web3.exceptions import ContractCustomError, Web3RPCError

import rpc_world
from omninode.contracts.artifacts import load_artifact
from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.crypto import keccak256
from rpc_chain import Side

KEY = Account.from_key("0x" + "11" * 32)
HOLDER, OTHER = KEY.address, "0x" + "77" * 20


def use(url: str) -> None:
    """Deploy a token, move it, read it back; run into a revert and a refusal."""
    web3 = Web3(Web3.HTTPProvider(url, request_kwargs={"timeout": 20}))
    assert web3.is_connected()
    assert web3.eth.chain_id == 31337
    assert web3.eth.accounts == []
    assert web3.eth.get_balance(HOLDER) == 10**18
    artifact = load_artifact("XOM")
    factory = web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
    deployed = send(web3, factory.constructor(HOLDER, 1_000))
    token: Any = web3.eth.contract(deployed["contractAddress"], abi=artifact.abi)
    moved = send(web3, token.functions.transfer(Web3.to_checksum_address(OTHER), 7))
    [event] = token.events.Transfer().process_receipt(moved)
    assert event["args"]["value"] == 7
    assert token.functions.balanceOf(Web3.to_checksum_address(OTHER)).call() == 7
    logs = token.events.Transfer().get_logs(from_block=deployed["blockNumber"])
    assert [log["args"]["value"] for log in logs] == [1_000, 7]
    block = web3.eth.get_block(moved["blockNumber"], full_transactions=True)
    assert [transaction["hash"] for transaction in block["transactions"]] == [  # type: ignore[index]
        moved["transactionHash"]
    ]
    too_much = token.functions.transfer(Web3.to_checksum_address(OTHER), 10**9)
    selector = keccak256(b"ERC20InsufficientBalance(address,uint256,uint256)")[:4]
    for ask in (too_much.call, too_much.estimate_gas):
        with pytest.raises(ContractCustomError) as reverted:
            ask({"from": HOLDER})
        assert str(reverted.value.data).startswith("0x" + selector.hex())
        assert len(str(reverted.value.data)) == 2 + 2 * (4 + 3 * 32)
    with pytest.raises(Web3RPCError):
        web3.eth.send_raw_transaction(b"\xc0")
    with web3.batch_requests() as batch:
        batch.add(web3.eth.get_block_number())  # type: ignore[arg-type]
        batch.add(web3.eth.get_transaction_count(HOLDER))  # type: ignore[arg-type]
        assert batch.execute()[1] == 2


def send(web3: Web3, call: Any) -> Any:
    transaction = call.build_transaction(
        {"from": HOLDER, "nonce": web3.eth.get_transaction_count(HOLDER)}
    )
    raw = KEY.sign_transaction(transaction).raw_transaction
    receipt = web3.eth.wait_for_transaction_receipt(
        web3.eth.send_raw_transaction(raw), timeout=20, poll_latency=0.05
    )
    assert receipt["status"] == 1
    return receipt


async def test_web3_works_through_a_node(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        settings = ChainSettings(
            home=tmp_path / "chain", port=0, block_interval_ms=50, alloc={HOLDER: 10**18}
        )
        side = Side(await nursery.start(run_chain, settings))
        async with rpc_world.running(tmp_path / "node", settlement=side) as world:
            await trio.to_thread.run_sync(use, world.url)
        await side.endpoint.close()
        nursery.cancel_scope.cancel()
