"""A dev chain in a process of its own, and accounts that sign for it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3

from omninode.contracts.artifacts import load_artifact

CHAIN_ID = 31337
START_TIMEOUT_S = 30.0
WAIT_TIMEOUT_S = 30.0
GWEI = 10**9
COINS = 10**24

ALICE: LocalAccount = Account.from_key("0x" + "a1" * 32)
BOB: LocalAccount = Account.from_key("0x" + "b0" * 32)
POOR: LocalAccount = Account.from_key("0x" + "9f" * 32)

T = TypeVar("T")


class RpcError(Exception):
    """The chain's answer was an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data = error.get("data")


class DevChain:
    """One process; `start` it again after it ended and it goes on in its folder."""

    def __init__(self, home: Path, *, interval_ms: int = 100) -> None:
        self.home = home
        self.interval_ms = interval_ms
        self.alloc: dict[str, str] | None = {
            ALICE.address: str(COINS),
            BOB.address: str(COINS),
        }
        self.url = ""
        self.start_s = 0.0
        self._process: subprocess.Popen[str] | None = None
        self._http = httpx.Client(timeout=60)

    def command(self) -> list[str]:
        command = [
            sys.executable, "-m", "omninode.contracts.devchain", "--home", str(self.home),
            "--port", "0", "--block-interval-ms", str(self.interval_ms),
        ]  # fmt: skip
        if self.alloc is not None:
            path = self.home.with_suffix(".json")
            path.write_text(json.dumps(self.alloc))
            command += ["--alloc", str(path)]
        return command

    def start(self) -> Self:
        begun = time.monotonic()
        log = self.home.with_suffix(".log").open("a")
        with log:
            self._process = subprocess.Popen(
                self.command(), stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self._process.stdout
        self.url = self._process.stdout.readline().strip()
        self.start_s = time.monotonic() - begun
        assert self.url, f"the chain did not start:\n{self.log()}"
        return self

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def log(self) -> str:
        return self.home.with_suffix(".log").read_text()

    def end(self, how: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        assert self._process
        assert self._process.stdout
        self._process.send_signal(how)
        code = self._process.wait(START_TIMEOUT_S)
        self._process.stdout.close()
        self._process = None
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()
        if self._process is not None:
            self.end(signal.SIGKILL)

    def close(self) -> None:
        """Close the connections of this client."""
        self._http.close()

    def post(self, body: bytes | str, **headers: str) -> httpx.Response:
        """Send a body as it is."""
        content = body.encode() if isinstance(body, str) else body
        named = {"content-type": "application/json"}
        named |= {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.post(self.url, content=content, headers=named)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method and return its result."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(arguments)}
        answer = self.post(json.dumps(request)).json()
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def web3(self) -> Web3:
        return Web3(HTTPProvider(self.url, exception_retry_configuration=None))

    def head(self) -> int:
        return int(self.call("eth_blockNumber"), 16)

    def nonce(self, account: LocalAccount, tag: str = "latest") -> int:
        return int(self.call("eth_getTransactionCount", account.address, tag), 16)

    def sign(self, account: LocalAccount, **fields: Any) -> tuple[str, str]:
        """Return a signed transaction and its hash; a transfer of 1 wei unless told otherwise."""
        transaction: dict[str, Any] = {
            "chainId": CHAIN_ID,
            "to": "0x" + "77" * 20,
            "value": 1,
            "gas": 21_000,
            "maxFeePerGas": 10 * GWEI,
            "maxPriorityFeePerGas": GWEI,
            **fields,
        }
        if "nonce" not in transaction:
            transaction["nonce"] = self.nonce(account, "pending")
        signed = account.sign_transaction(
            {name: value for name, value in transaction.items() if value is not None}
        )
        return signed.raw_transaction.to_0x_hex(), signed.hash.to_0x_hex()

    def send(self, account: LocalAccount, **fields: Any) -> str:
        """Sign and send a transaction; return its hash."""
        raw, expected = self.sign(account, **fields)
        assert self.call("eth_sendRawTransaction", raw) == expected
        return expected

    def receipt(self, transaction_hash: str) -> dict[str, Any]:
        """Wait until a transaction is in a block; return its receipt."""
        found: dict[str, Any] = self.wait(
            lambda: self.call("eth_getTransactionReceipt", transaction_hash),
            f"a receipt of {transaction_hash}",
        )
        return found

    def wait(self, look: Callable[[], T | None], what: str) -> T:
        """Look until something is there."""
        ends = time.monotonic() + WAIT_TIMEOUT_S
        while time.monotonic() < ends:
            found = look()
            if found:
                return found
            time.sleep(0.02)
        raise AssertionError(f"no {what} within {WAIT_TIMEOUT_S} s\n{self.log()}")

    def deploy(self, account: LocalAccount, code: bytes, gas: int = 3_000_000) -> str:
        """Create a contract and return its address."""
        created = self.send(account, to=None, value=0, data=code, gas=gas)
        receipt = self.receipt(created)
        assert receipt["status"] == "0x1", receipt
        address: str = receipt["contractAddress"]
        return address

    def deploy_token(self, account: LocalAccount) -> Any:
        """Create a test token that `account` may mint; return web3.py's contract."""
        artifact = load_artifact("TestToken")
        web3 = self.web3()
        factory = web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        made = factory.constructor("Coin", "COIN", 6, account.address)
        address = self.deploy(account, bytes.fromhex(made.data_in_transaction[2:]))
        return web3.eth.contract(address=Web3.to_checksum_address(address), abi=artifact.abi)

    def transact(self, account: LocalAccount, contract: Any, name: str, *values: Any) -> str:
        """Send a transaction to a contract; return its hash."""
        encoded = contract.encode_abi(name, args=list(values))
        return self.send(account, to=contract.address, value=0, data=encoded, gas=200_000)


def contract_code(runtime: str) -> bytes:
    """Return init code, in hex words of the EVM, that leaves `runtime` (hex) on the chain."""
    code = bytes.fromhex(runtime)
    # PUSH2 size, DUP1, PUSH1 12, PUSH1 0, CODECOPY, PUSH1 0, RETURN
    prefix = bytes.fromhex(f"61{len(code):04x}80600c6000396000f3")
    assert len(prefix) == 12
    return prefix + code
