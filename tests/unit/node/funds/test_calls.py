"""The calls and events that we write as text are those of the compiled contracts."""

from __future__ import annotations

import pytest
import trio
from web3 import Web3

from omninode.contracts.artifacts import load_artifact
from omninode.crypto import keccak256
from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.funds import calls
from omninode.node.funds.chain import SettlementChain, refuse, revert_name


def signatures(artifact: str, kind: str) -> set[str]:
    return {
        f"{entry['name']}({','.join(field['type'] for field in entry['inputs'])})"
        for entry in load_artifact(artifact).abi
        if entry["type"] == kind
    }


def test_functions_and_events_are_in_the_artifacts() -> None:
    settlement = signatures("Settlement", "function")
    assert {calls.DEPOSIT, calls.DEPOSIT_COUNT, calls.GENESIS_HASH, calls.IS_WITHDRAWN} <= (
        settlement
    )
    staking = {calls.REGISTER, calls.ADD_STAKE, calls.UNSTAKE, calls.EXIT, calls.UNJAIL}
    staking |= {calls.STAKE_OF, calls.IS_REGISTERED, calls.STAKE_CHECKPOINT, calls.STAKE_TOKEN}
    assert staking <= settlement
    events = signatures("Settlement", "event")
    assert {
        calls.DEPOSITED,
        calls.STAKE_CHANGED,
        calls.WITHDRAWN,
        calls.CHECKPOINTED,
    } <= events
    for token in ("XOM", "TestToken"):
        functions = signatures(token, "function")
        assert {calls.APPROVE, calls.TRANSFER, calls.BALANCE_OF, calls.ALLOWANCE} <= functions
    assert calls.MINT in signatures("TestToken", "function")


def test_a_call_is_encoded_as_web3_does() -> None:
    token, account = bytes([1]) * 20, bytes([2]) * 20
    contract = Web3().eth.contract(abi=load_artifact("Settlement").abi)
    arguments = [Web3.to_checksum_address(token), 5, Web3.to_checksum_address(account), 7]
    ours = calls.deposit(bytes(20), token, 5, account=account, subaccount=7)
    assert "0x" + ours.data.hex() == contract.encode_abi("deposit", args=arguments)


def test_a_revert_has_the_contracts_own_name() -> None:
    data = "0x" + keccak256(b"AlreadyWithdrawn(uint64)")[:4].hex() + "00" * 32
    assert revert_name(data) == revert_name({"data": data}) == "AlreadyWithdrawn"
    for other in (None, "0x", "0x12", 7, "0xzz", "0x" + "ff" * 4):
        assert revert_name(other) is None


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            EndpointError(
                3, "execution reverted", "0x" + keccak256(b"NotCheckpointed()")[:4].hex()
            ),
            "not_checkpointed",
        ),
        (EndpointError(-32000, "nonce too low"), "chain_refused"),
        (EndpointError(-32000, "anything"), "chain_refused"),
    ],
)
def test_a_refusal_becomes_a_reason(error: EndpointError, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        refuse(error, "it")
    assert caught.value.reason == reason
    assert caught.value.hint


@pytest.mark.parametrize("answer", [None, 7, "", "0x", "rubbish", {}, ["0x1"]])
async def test_what_no_chain_answers_is_an_error_of_the_chain(answer: object) -> None:
    async def ask(method: str, params: list[object]) -> object:
        await trio.lowlevel.checkpoint()
        return answer

    chain = SettlementChain(ask)
    for call in (chain.chain_id, chain.newest, lambda: chain.read(bytes(20), calls.GENESIS_HASH)):
        with pytest.raises(ChainError):
            await call()
