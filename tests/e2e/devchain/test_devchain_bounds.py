"""Nothing that a stranger sends stops the chain, and no call starves the making of blocks."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from devchain_process import ALICE, DevChain, RpcError, contract_code

LOOP = "5b600056"
# Calls the pairing check of BN254 over 15 pairs of zeros until the gas is gone.
PAIRINGS = "5b" + "60206000610b40600060006008" + "5af1" + "50600056"
# Calls itself with all its gas.
RECURSION = "6000600060006000600030" + "5af1" + "00"


@pytest.fixture(autouse=True)
def alive(chain: DevChain) -> Iterator[None]:
    """Whatever a test did, blocks go on and transactions are taken."""
    yield
    head = chain.head()
    chain.wait(lambda: chain.head() > head, "new block")
    assert chain.receipt(chain.send(ALICE))["status"] == "0x1"


def error_of(chain: DevChain, body: bytes | str) -> tuple[int, str]:
    answer = chain.post(body).json()
    assert answer["id"] is None
    return answer["error"]["code"], answer["error"]["message"]


def test_garbage_gets_an_error(chain: DevChain, seed: int) -> None:
    chance = random.Random(seed)
    for body in ("", "{", "[", "nul", '{"jsonrpc":"2.0"', "\x00", "[1,", b"\xff\xfe", "{} {}"):
        assert error_of(chain, body)[0] == -32700, body
    for body in ("{}", "1", '"x"', "null", '{"jsonrpc":"1.0","method":"x","id":null}'):
        assert error_of(chain, body)[0] == -32600, body
    for body in (
        '{"jsonrpc":"2.0","method":"x","id":{}}',
        '{"jsonrpc":"2.0","method":"x","id":[1]}',
    ):
        assert error_of(chain, body)[0] == -32600, body
    assert error_of(chain, "[" * 100_000) == (-32600, "nested too deep")
    assert error_of(chain, '{"a":' * 100_000) == (-32600, "nested too deep")
    for _ in range(100):
        noise = bytes(
            chance.choices(b'{}[]",:0x1 abcdetfjsonrpcmethodparams', k=chance.randrange(80))
        )
        assert chain.post(noise).status_code in (200, 204)


def test_wrong_arguments_get_an_error(chain: DevChain, seed: int) -> None:
    chance = random.Random(seed)
    methods = [
        "eth_getBalance", "eth_getCode", "eth_getStorageAt", "eth_getTransactionCount", "eth_call",
        "eth_estimateGas", "eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts",
        "eth_getBlockTransactionCountByNumber", "eth_getTransactionByHash", "eth_getLogs",
        "eth_getTransactionReceipt", "eth_feeHistory", "eth_sendRawTransaction", "dev_reorganise",
        "eth_getTransactionByBlockHashAndIndex",
    ]  # fmt: skip
    for method in methods:
        with pytest.raises(RpcError, match="missing value for required argument 0"):
            chain.call(method)
    pieces: list[Any] = [
        None, True, 0, -1, 2**70, 1.5, "", "0x", "0x0", "0xzz", "latest", "0x" + "f" * 64,
        "0x1" * 40,
        "0x" + "11" * 20, [], [None], {}, {"a": 1}, {"blockHash": 5}, {"fromBlock": {}},
        {"topics": 7}, {"topics": [[[]]]}, {"to": 3}, {"to": "0x" + "11" * 20, "gas": "0x1"},
        {"data": "0x1"}, {"accessList": [1]}, {"value": "0x" + "f" * 64},
    ]  # fmt: skip
    for _ in range(400):
        method = chance.choice(methods)
        arguments = chance.choices(pieces, k=chance.randrange(1, 4))
        if method == "dev_reorganise":
            continue
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": arguments}
        answer = chain.post(json.dumps(request)).json()
        code = answer.get("error", {}).get("code")
        assert code != -32603, (request, answer, chain.log())


def test_unknown_methods_and_notifications(chain: DevChain) -> None:
    with pytest.raises(RpcError, match="does not exist/is not available") as caught:
        chain.call("eth_mining")
    assert caught.value.code == -32601
    silent = chain.post('{"jsonrpc":"2.0","method":"eth_chainId"}')
    assert (silent.status_code, silent.content) == (204, b"")


def test_batches(chain: DevChain) -> None:
    ask = {"jsonrpc": "2.0", "method": "eth_chainId", "params": []}
    bodies = [{**ask, "id": 1}, ask, {**ask, "id": "b"}, {**ask, "id": 9, "method": "no"}, 5]
    answers = chain.post(json.dumps(bodies)).json()
    assert [answer["id"] for answer in answers] == [1, "b", 9, None]
    assert answers[0]["result"] == answers[1]["result"] == "0x7a69"
    assert [answer["error"]["code"] for answer in answers[2:]] == [-32601, -32600]
    assert error_of(chain, "[]") == (-32600, "empty batch")
    assert error_of(chain, json.dumps([ask] * 201)) == (-32600, "batch too large")
    whole = chain.post(json.dumps([{**ask, "id": n} for n in range(200)])).json()
    assert len(whole) == 200


def test_bodies_and_heads_are_bounded(chain: DevChain) -> None:
    assert chain.post(b" " * (3 * 2**20)).status_code == 413
    assert chain.post("{}", content_type="text/plain").status_code == 415
    host, port = chain.url.removeprefix("http://").split(":")
    for head in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x00\xff\r\n\r\n"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(head)
            assert connection.recv(100).split()[1] in (b"405", b"400")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nx: " + b"a" * 40_000)
        assert connection.recv(100).split()[1] == b"431"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\n{")


def test_a_page_may_ask_but_not_use_the_methods_for_tests(chain: DevChain) -> None:
    asked = chain.post(
        '{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}', origin="https://wallet.example"
    )
    assert asked.headers["access-control-allow-origin"] == "*"
    assert asked.json()["result"] == "0x7a69"
    refused = chain.post(
        '{"jsonrpc":"2.0","id":1,"method":"dev_mine"}', origin="https://wallet.example"
    )
    assert refused.json()["error"]["code"] == -32601
    import httpx

    preflight = httpx.options(
        chain.url,
        headers={
            "origin": "https://wallet.example",
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type",
        },
    )
    assert preflight.status_code == 204
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "content-type"


@pytest.mark.slow
def test_endless_calls_end_and_do_not_hold_up_blocks(chain: DevChain) -> None:
    loops = [chain.deploy(ALICE, contract_code(code)) for code in (LOOP, PAIRINGS)]
    errors: list[str] = []

    def ask(address: str) -> None:
        import httpx

        body = {"jsonrpc": "2.0", "id": 1, "method": "eth_call", "params": [{"to": address}]}
        answer = httpx.post(chain.url, json=body, timeout=90).json()
        errors.append(answer["error"]["message"])

    askers = [threading.Thread(target=ask, args=(address,)) for address in loops]
    for asker in askers:
        asker.start()
    before, begun = chain.head(), time.monotonic()
    while any(asker.is_alive() for asker in askers):
        time.sleep(0.1)
        quick = time.monotonic()
        chain.head()
        assert time.monotonic() - quick < 2
    took = time.monotonic() - begun
    assert took < 45
    # Ten a second are due; the calls may take half of the time, and a busy machine more.
    assert chain.head() - before > took
    assert len(errors) == 2
    for message in errors:
        assert "timeout" in message or message == "out of gas"


def test_the_deepest_recursion_is_survived(chain: DevChain) -> None:
    address = chain.deploy(ALICE, contract_code(RECURSION))
    assert chain.call("eth_call", {"to": address, "gas": hex(30_000_000)}) == "0x"
    sent = chain.send(ALICE, to=bytes.fromhex(address[2:]), value=0, gas=10_000_000)
    assert chain.receipt(sent)["status"] == "0x1"


def test_an_account_can_not_fill_the_pool(slow_chain: DevChain) -> None:
    for nonce in range(1, 65):
        slow_chain.send(ALICE, nonce=nonce)
    with pytest.raises(RpcError, match="account limit exceeded"):
        slow_chain.send(ALICE, nonce=65)
    with pytest.raises(RpcError, match="account limit exceeded"):
        slow_chain.send(ALICE, nonce=0)


def test_silent_connections_do_not_keep_others_out(chain: DevChain) -> None:
    host, port = chain.url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port))) for _ in range(200)]
    try:
        assert chain.head() > 0
    finally:
        for connection in held:
            connection.close()


def test_the_log_shows_no_failure_of_our_own(chain: DevChain) -> None:
    log = Path(chain.home.with_suffix(".log")).read_text()
    assert "call_failed" not in log
    assert "connection_failed" not in log
    assert "Traceback" not in log
