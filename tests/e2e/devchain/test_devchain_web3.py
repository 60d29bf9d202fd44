"""web3.py uses the dev chain as any chain: contracts, events, errors, fees, nonces."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from devchain_process import ALICE, BOB, GWEI, POOR, DevChain, RpcError, contract_code
from eth_utils import keccak
from hexbytes import HexBytes
from trie import HexaryTrie
from web3 import Web3
from web3.exceptions import BlockNotFound, ContractCustomError, ContractLogicError

# PUSH-ed `Error(string)` "no luck", then REVERT; `Panic(0x11)`; the same without any words.
REVERT_WITH_WORDS = (
    "7f08c379a0" + "00" * 28 + "600052"
    "6020600452"
    "6007602452"
    "7f6e6f206c75636b" + "00" * 25 + "604452"
    "60646000fd"
)
PANIC = "7f4e487b71" + "00" * 28 + "600052" + "6011600452" + "60246000fd"
BARE_REVERT = "60006000fd"


@pytest.fixture(scope="module")
def token(chain: DevChain) -> Any:
    made = chain.deploy_token(ALICE)
    receipt = chain.receipt(chain.transact(ALICE, made, "mint", ALICE.address, 10**12))
    assert receipt["status"] == "0x1"
    return made


def test_web3_sends_by_itself(chain: DevChain) -> None:
    web3 = chain.web3()
    from web3.middleware import SignAndSendRawMiddlewareBuilder

    web3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build(BOB), layer=0)
    recipient = Web3.to_checksum_address("0x" + "61" * 20)
    sent = web3.eth.send_transaction({"from": BOB.address, "to": recipient, "value": 12_345})
    receipt = web3.eth.wait_for_transaction_receipt(sent, timeout=20, poll_latency=0.05)
    assert receipt["status"] == 1
    assert web3.eth.get_balance(recipient) == 12_345
    assert web3.eth.get_balance(recipient, receipt["blockNumber"] - 1) == 0
    found = web3.eth.get_transaction(sent)
    assert found["from"] == BOB.address
    assert found["blockHash"] == receipt["blockHash"]
    assert web3.eth.get_transaction_receipt(sent)["gasUsed"] == 21_000


def test_a_token_moves_and_its_events_are_found(chain: DevChain, token: Any) -> None:
    receipt = chain.receipt(chain.transact(ALICE, token, "transfer", BOB.address, 250))
    number = int(receipt["blockNumber"], 16)
    assert token.functions.balanceOf(BOB.address).call() >= 250
    by_range = token.events.Transfer().get_logs(from_block=0, to_block="latest")
    mine = [
        log for log in by_range if log.transactionHash.to_0x_hex() == receipt["transactionHash"]
    ]
    assert [(log.args["from"], log.args["to"], log.args["value"]) for log in mine] == [
        (ALICE.address, BOB.address, 250)
    ]
    by_hash = chain.call(
        "eth_getLogs", {"blockHash": receipt["blockHash"], "address": token.address.lower()}
    )
    assert by_hash == receipt["logs"]
    topics = receipt["logs"][0]["topics"]
    for wanted, count in (
        ([topics[0]], 1),
        ([None, topics[1]], 1),
        ([[topics[0], "0x" + "00" * 32], None, [topics[2]]], 1),
        ([topics[1]], 0),
        ([*topics, None], 0),
    ):
        query = {"fromBlock": hex(number), "toBlock": hex(number), "topics": wanted}
        assert len(chain.call("eth_getLogs", query)) == count, wanted
    assert chain.call("eth_getLogs", {"fromBlock": hex(number), "address": "0x" + "55" * 20}) == []
    assert int(receipt["logsBloom"], 16) != 0


def test_logs_are_numbered_through_a_block(slow_chain: DevChain) -> None:
    created = slow_chain.sign(ALICE, nonce=0)[0]
    slow_chain.call("eth_sendRawTransaction", created)
    slow_chain.call("dev_mine")
    # LOG1 with topic 7 and no data, three times.
    loud = contract_code("6007600060 00a1".replace(" ", "") * 3 + "00")
    sent = slow_chain.send(ALICE, to=None, value=0, data=loud, gas=200_000)
    slow_chain.call("dev_mine")
    address = slow_chain.call("eth_getTransactionReceipt", sent)["contractAddress"]
    both = [
        slow_chain.send(account, to=Web3.to_checksum_address(address), value=0, gas=100_000)
        for account in (ALICE, BOB)
    ]
    slow_chain.call("dev_mine")
    receipts = slow_chain.call("eth_getBlockReceipts", "latest")
    assert {item["transactionHash"] for item in receipts} == set(both)
    numbers = [int(log["logIndex"], 16) for item in receipts for log in item["logs"]]
    assert numbers == [0, 1, 2, 3, 4, 5]
    gas = [int(item["gasUsed"], 16) for item in receipts]
    assert int(receipts[1]["cumulativeGasUsed"], 16) == sum(gas)
    found = slow_chain.call("eth_getLogs", {"topics": ["0x" + "00" * 31 + "07"]})
    assert found == [log for item in receipts for log in item["logs"]]


def test_a_custom_error_reaches_web3(chain: DevChain, token: Any) -> None:
    with pytest.raises(ContractCustomError) as caught:
        token.functions.transfer(ALICE.address, 1).call({"from": POOR.address})
    data = str(caught.value.data)
    expected = keccak(text="ERC20InsufficientBalance(address,uint256,uint256)")[:4]
    assert data.startswith("0x" + expected.hex())
    with pytest.raises(ContractCustomError):
        token.functions.transfer(ALICE.address, 1).estimate_gas({"from": POOR.address})
    failed = chain.receipt(chain.transact(BOB, token, "transfer", ALICE.address, 10**30))
    assert failed["status"] == "0x0"
    assert failed["logs"] == []


@pytest.mark.parametrize(
    ("runtime", "message", "data"),
    [
        (REVERT_WITH_WORDS, "execution reverted: no luck", "0x08c379a0"),
        (PANIC, "execution reverted: arithmetic underflow or overflow", "0x4e487b71"),
        (BARE_REVERT, "execution reverted", "0x"),
    ],
)
def test_reverts_carry_their_reason(chain: DevChain, runtime: str, message: str, data: str) -> None:
    address = chain.deploy(ALICE, contract_code(runtime))
    for method in ("eth_call", "eth_estimateGas"):
        with pytest.raises(RpcError) as caught:
            chain.call(method, {"to": address})
        assert (caught.value.code, caught.value.message) == (3, message)
        assert str(caught.value.data).startswith(data)
    with pytest.raises(ContractLogicError, match=r"reverted|Panic error 0x11"):
        chain.web3().eth.call({"to": Web3.to_checksum_address(address)})


def test_an_estimate_is_enough_and_not_much_more(chain: DevChain, token: Any) -> None:
    assert (
        int(chain.call("eth_estimateGas", {"from": ALICE.address, "to": BOB.address}), 16) == 21_000
    )
    fresh = Web3.to_checksum_address("0x" + "62" * 20)
    estimate = token.functions.transfer(fresh, 5).estimate_gas({"from": ALICE.address})
    encoded = token.encode_abi("transfer", args=[fresh, 5])
    sent = chain.send(ALICE, to=token.address, value=0, data=encoded, gas=estimate)
    receipt = chain.receipt(sent)
    assert receipt["status"] == "0x1"
    assert int(receipt["gasUsed"], 16) <= estimate <= int(receipt["gasUsed"], 16) * 1.3
    with pytest.raises(RpcError, match="gas required exceeds allowance"):
        chain.call(
            "eth_estimateGas",
            {"from": ALICE.address, "to": token.address, "data": encoded, "gas": hex(24_000)},
        )


def test_an_estimate_finds_what_a_call_inside_needs(chain: DevChain) -> None:
    # Reverts unless 100,000 gas are left: GAS, PUSH3 100000, LT (100000 < gas), JUMPI.
    needy = chain.deploy(ALICE, contract_code("5a620186a010600e5760006000fd5b00"))
    needed = int(chain.call("eth_estimateGas", {"to": needy}), 16)
    assert 121_000 < needed < 124_000


def test_a_call_sees_the_state_it_asks_for(chain: DevChain, token: Any) -> None:
    fresh = Web3.to_checksum_address("0x" + "63" * 20)
    before = chain.head()
    receipt = chain.receipt(chain.transact(ALICE, token, "transfer", fresh, 9))
    after = int(receipt["blockNumber"], 16)
    balance = token.functions.balanceOf(fresh)
    assert balance.call(block_identifier=before) == 0
    assert balance.call(block_identifier=after) == 9
    assert balance.call(block_identifier=HexBytes(receipt["blockHash"])) == 9
    assert len(chain.call("eth_getCode", token.address, "latest")) > 1_000
    assert chain.call("eth_getCode", token.address, "0x0") == "0x"
    slots = [
        chain.call("eth_getStorageAt", token.address, hex(slot), "latest") for slot in range(8)
    ]
    assert any(int(slot, 16) for slot in slots)


def test_a_call_sees_block_number_and_older_hashes(chain: DevChain) -> None:
    # BLOCKHASH(NUMBER - 2) and NUMBER, returned as two words.
    address = chain.deploy(
        ALICE, contract_code("600243034060005243602052604060 00f3".replace(" ", ""))
    )
    number = chain.head()
    seen = chain.call("eth_call", {"to": address}, hex(number))
    older = chain.call("eth_getBlockByNumber", hex(number - 2), False)
    assert seen == older["hash"] + f"{number:064x}"


def test_tags_name_the_right_blocks(slow_chain: DevChain) -> None:
    slow_chain.call("dev_mine", 70)
    numbers = {
        tag: int(slow_chain.call("eth_getBlockByNumber", tag, False)["number"], 16)
        for tag in ("earliest", "finalized", "safe", "latest", "pending")
    }
    assert numbers == {"earliest": 0, "finalized": 6, "safe": 38, "latest": 70, "pending": 71}
    web3 = slow_chain.web3()
    with pytest.raises(BlockNotFound):
        web3.eth.get_block(71)
    assert slow_chain.call("eth_getBlockByHash", "0x" + "12" * 32, False) is None
    with pytest.raises(RpcError, match="header not found"):
        slow_chain.call("eth_getBalance", ALICE.address, "0x1000")
    with pytest.raises(RpcError, match="unknown block"):
        slow_chain.call("eth_getLogs", {"blockHash": "0x" + "12" * 32})


def test_fees_and_their_history(slow_chain: DevChain) -> None:
    for nonce, tip in enumerate((1, 2, 3)):
        slow_chain.send(ALICE, nonce=nonce, maxPriorityFeePerGas=tip * GWEI)
    slow_chain.call("dev_mine", 2)
    history = slow_chain.web3().eth.fee_history(5, "latest", [0, 50, 100])
    assert history["oldestBlock"] == 0
    assert history["reward"] == [[0, 0, 0], [GWEI, 2 * GWEI, 3 * GWEI], [0, 0, 0]]
    assert len(history["baseFeePerGas"]) == 4
    blocks = [slow_chain.call("eth_getBlockByNumber", hex(n), False) for n in range(3)]
    assert history["baseFeePerGas"][:3] == [int(block["baseFeePerGas"], 16) for block in blocks]
    assert history["baseFeePerGas"][1] < history["baseFeePerGas"][0]
    assert history["gasUsedRatio"] == [0, 63_000 / 30_000_000, 0]
    tip = int(slow_chain.call("eth_maxPriorityFeePerGas"), 16)
    price = int(slow_chain.call("eth_gasPrice"), 16)
    assert price == history["baseFeePerGas"][3] + tip


def test_nonces_may_come_in_any_order(slow_chain: DevChain) -> None:
    hashes = {nonce: slow_chain.send(ALICE, nonce=nonce) for nonce in (3, 1, 2)}
    assert slow_chain.nonce(ALICE, "pending") == 0
    slow_chain.call("dev_mine")
    assert slow_chain.nonce(ALICE) == 0
    assert slow_chain.call("eth_getTransactionByHash", hashes[3])["blockNumber"] is None
    assert slow_chain.call("eth_getTransactionReceipt", hashes[3]) is None
    hashes[0] = slow_chain.send(ALICE, nonce=0)
    assert slow_chain.nonce(ALICE, "pending") == 4
    slow_chain.call("dev_mine")
    assert slow_chain.nonce(ALICE) == 4
    block = slow_chain.call("eth_getBlockByNumber", "latest", True)
    assert [item["hash"] for item in block["transactions"]] == [hashes[nonce] for nonce in range(4)]


def test_a_replacement_must_pay_a_tenth_more(slow_chain: DevChain) -> None:
    first = slow_chain.send(ALICE, nonce=0, maxFeePerGas=10 * GWEI, maxPriorityFeePerGas=GWEI)
    for fee, tip in ((11 * GWEI, GWEI), (10 * GWEI, 2 * GWEI), (11 * GWEI - 1, 2 * GWEI)):
        with pytest.raises(RpcError, match="replacement transaction underpriced"):
            slow_chain.send(ALICE, nonce=0, maxFeePerGas=fee, maxPriorityFeePerGas=tip)
    second = slow_chain.send(
        ALICE, nonce=0, maxFeePerGas=11 * GWEI, maxPriorityFeePerGas=11 * GWEI // 10
    )
    assert slow_chain.call("eth_getTransactionByHash", first) is None
    slow_chain.call("dev_mine")
    assert slow_chain.call("eth_getTransactionReceipt", second)["status"] == "0x1"


def test_what_can_not_be_in_a_block_is_refused_with_words_that_clients_know(
    slow_chain: DevChain,
) -> None:
    known = slow_chain.sign(ALICE, nonce=0)[0]
    slow_chain.call("eth_sendRawTransaction", known)
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("a", {"chainId": 1, "nonce": 1}, "invalid chain id"),
        ("a", {"nonce": 1, "gas": 20_999}, "intrinsic gas too low"),
        ("a", {"nonce": 1, "gas": 30_000_001}, "exceeds block gas limit"),
        ("a", {"nonce": 1, "maxPriorityFeePerGas": 11 * GWEI}, "max priority fee per gas higher"),
        ("a", {"nonce": 1, "value": 10**24}, "insufficient funds"),
        ("p", {"nonce": 0}, "insufficient funds"),
        ("a", {"nonce": 1, "data": b"\1" * 1_000, "gas": 40_000}, "floor data gas"),
        ("a", {"nonce": 1, "data": b"\1" * 140_000, "gas": 10**7}, "oversized data"),
    ]
    accounts = {"a": ALICE, "p": POOR}
    for who, fields, words in cases:
        with pytest.raises(RpcError, match=words) as caught:
            slow_chain.send(accounts[who], **fields)
        assert caught.value.code == -32000
    with pytest.raises(RpcError, match="already known"):
        slow_chain.call("eth_sendRawTransaction", known)
    slow_chain.call("dev_mine")
    with pytest.raises(RpcError, match="nonce too low"):
        slow_chain.call("eth_sendRawTransaction", known)
    for garbage in ("0x", "0x00", "0x02c0", "0x03c0", "0x7f00", "0xc0", "0x" + "ff" * 100):
        with pytest.raises(RpcError):
            slow_chain.call("eth_sendRawTransaction", garbage)


def test_old_kinds_of_transactions_are_taken(chain: DevChain) -> None:
    old = {"maxFeePerGas": None, "maxPriorityFeePerGas": None, "gasPrice": 10 * GWEI}
    plain = chain.receipt(chain.send(BOB, **old))
    entry = {"address": "0x" + "55" * 20, "storageKeys": ["0x" + "01" * 32]}
    listed = chain.send(BOB, **old, accessList=[entry], gas=30_000)
    assert (plain["type"], chain.receipt(listed)["type"]) == ("0x0", "0x1")
    assert chain.call("eth_getTransactionByHash", listed)["accessList"] == [entry]
    assert int(plain["effectiveGasPrice"], 16) == 10 * GWEI


def test_an_account_may_lend_itself_code(slow_chain: DevChain) -> None:
    # The code logs; BOB lets his account run it (EIP-7702), and ALICE pays for that.
    created = slow_chain.send(
        ALICE, to=None, value=0, data=contract_code("60006000a000"), gas=10**5
    )
    slow_chain.call("dev_mine")
    code = slow_chain.call("eth_getTransactionReceipt", created)["contractAddress"]
    lent = BOB.sign_authorization({"chainId": 31337, "address": code, "nonce": 0})
    waiting = slow_chain.send(BOB, nonce=0)
    fees = {"maxFeePerGas": 20 * GWEI, "maxPriorityFeePerGas": 2 * GWEI}
    sent = slow_chain.send(
        ALICE, to=BOB.address, value=0, gas=100_000, authorizationList=[lent], **fees
    )
    slow_chain.call("dev_mine")
    receipt = slow_chain.call("eth_getTransactionReceipt", sent)
    assert (receipt["type"], receipt["status"]) == ("0x4", "0x1")
    assert [log["address"] for log in receipt["logs"]] == [BOB.address.lower()]
    assert slow_chain.call("eth_getCode", BOB.address, "latest") == "0xef0100" + code[2:]
    shown = slow_chain.call("eth_getTransactionByHash", sent)["authorizationList"]
    assert [entry["address"] for entry in shown] == [code]
    # The authorisation has used the nonce of what waited: that has no future, and leaves.
    assert slow_chain.nonce(BOB) == 1
    slow_chain.call("dev_mine")
    assert slow_chain.call("eth_getTransactionByHash", waiting) is None


def test_hashes_and_roots_are_those_of_ethereum(slow_chain: DevChain) -> None:
    raws = [slow_chain.sign(ALICE, nonce=nonce)[0] for nonce in range(3)]
    for raw in raws:
        slow_chain.call("eth_sendRawTransaction", raw)
    slow_chain.call("dev_mine")
    block = slow_chain.call("eth_getBlockByNumber", "0x1", False)
    numbers = {
        "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas",
        "blobGasUsed", "excessBlobGas",
    }  # fmt: skip
    fields = [
        "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
        "logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData",
        "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas",
        "parentBeaconBlockRoot", "requestsHash",
    ]  # fmt: skip
    header = [
        int(block[name], 16) if name in numbers else bytes.fromhex(block[name][2:])
        for name in fields
    ]
    assert keccak(rlp.encode(header)).hex() == block["hash"][2:]
    trie = HexaryTrie({})
    for index, raw in enumerate(raws):
        trie[rlp.encode(index)] = bytes.fromhex(raw[2:])
    assert trie.root_hash.hex() == block["transactionsRoot"][2:]
    body = [header, [bytes.fromhex(raw[2:]) for raw in raws], [], []]
    assert int(block["size"], 16) == len(rlp.encode(body))
