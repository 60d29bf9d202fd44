"""Money in and out of a running devnet, as people and wallets move it, exact to the last unit."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.logs import DISCARD

from omninode.contracts.artifacts import load_artifact
from omninode.errors import UserError
from omninode.node.keys.keystore import read_keystore
from real_devnet import BASE_PORT, Devnet, processes_of, wait_for

pytestmark = pytest.mark.slow

PORT = BASE_PORT + 50
XOM = 10**18
ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
CONTRACT_PAGE = ROOT / "docs" / "reference" / "contract.md"


class Wallet:
    """An ordinary wallet: web3.py with one account, and a validator as its endpoint."""

    def __init__(self, devnet: Devnet, name: str, *, validator: int) -> None:
        self.web3 = Web3(HTTPProvider(f"http://127.0.0.1:{devnet.base_port + 10 * validator + 1}"))
        folder = devnet.home / "accounts"
        secret = read_keystore(folder / name, (folder / "password").read_text().strip()).secret
        self.account = self.web3.eth.account.from_key(secret)
        self.chain = json.loads((devnet.home / "devnet.json").read_text())["chain"]
        self.contract = self.at(self.chain["settlement"], "Settlement")

    def at(self, address: str, artifact: str) -> Contract:
        checked = self.web3.to_checksum_address(address)
        return self.web3.eth.contract(address=checked, abi=load_artifact(artifact).abi)

    def token(self, asset: str) -> Contract:
        return self.at(self.chain["tokens"][asset], "TestToken")

    def owns(self, asset: str) -> int:
        owned: int = self.token(asset).functions.balanceOf(self.account.address).call()
        return owned

    def send(self, fields: dict[str, Any]) -> Any:
        """Sign and send as any program that uses web3.py does; returns the receipt."""
        eth = self.web3.eth
        nonce = eth.get_transaction_count(self.account.address)
        filled = {"from": self.account.address, "nonce": nonce, "chainId": eth.chain_id, **fields}
        filled.setdefault("gas", eth.estimate_gas(filled))
        filled.setdefault("maxPriorityFeePerGas", eth.max_priority_fee)
        base = eth.get_block("latest")["baseFeePerGas"]
        filled.setdefault("maxFeePerGas", 2 * base + filled["maxPriorityFeePerGas"])
        signed = self.account.sign_transaction(filled)
        receipt = eth.wait_for_transaction_receipt(
            eth.send_raw_transaction(signed.raw_transaction), timeout=30
        )
        assert receipt["status"] == 1
        return receipt

    def call(self, function: Any) -> Any:
        return self.send(function.build_transaction({"from": self.account.address}))


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    running = Devnet(tmp_path_factory.mktemp("money") / "devnet", base_port=PORT)
    yield running.ready()
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()


def balance(devnet: Devnet, node: int, address: str, asset: str) -> str:
    account = devnet.rpc(node, "omni_getAccount", address=address)
    rows = [row for part in account["subaccounts"] for row in part["balances"]]
    return next((str(row["total"]) for row in rows if row["asset"] == asset), "0")


def units(text: str, decimals: int) -> int:
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(decimals, "0"))


def test_alice_deposits_trades_withdraws_and_claims_with_an_ordinary_wallet(
    devnet: Devnet,
) -> None:
    wallet = Wallet(devnet, "alice", validator=2)
    address = wallet.account.address
    before = {asset: wallet.owns(asset) for asset in ("USDC", "XOM")}
    had = units(balance(devnet, 0, address, "USDC"), 6)
    had_xom = units(balance(devnet, 0, address, "XOM"), 18)
    deposited = 12_345_678

    wallet.call(wallet.token("USDC").functions.approve(wallet.contract.address, deposited))
    receipt = wallet.call(
        wallet.contract.functions.deposit(wallet.token("USDC").address, deposited, address, 0)
    )
    (event,) = wallet.contract.events.Deposited().process_receipt(receipt, errors=DISCARD)
    assert event["args"]["amount"] == deposited
    wait_for(
        lambda: units(balance(devnet, 0, address, "USDC"), 6) == had + deposited,
        seconds=30,
        why="another validator shows the deposit",
    )

    buy = ("order", "place", "--from", "alice", "--market", "XOM-USDC", "--side", "buy")
    order = devnet.omninode(*buy, "--size", "5", "--price", "1.01", "--tif", "ioc")
    assert order["state"] == "filled"
    paid = sum(
        units(str(fill["price"]), 6) * units(str(fill["size"]), 0) + units(str(fill["fee"]), 6)
        for fill in order["fills"]
    )

    withdrawn = {"USDC": ("7.000001", 7_000_001), "XOM": ("5", 5 * XOM)}
    for asset, (text, _) in withdrawn.items():
        asked = ("account", "withdraw", "--from", "alice", "--asset", asset, "--amount", text)
        row = devnet.omninode(*asked)
        proof = wait_for(
            lambda row=row: provable(devnet, row["id"]), seconds=30, why="a checkpoint covers it"
        )
        assert proof["contract"] == wallet.contract.address
        receipt = wallet.send({"to": proof["contract"], "data": proof["calldata"], "value": 0})
        (event,) = wallet.contract.events.Withdrawn().process_receipt(receipt, errors=DISCARD)
        assert event["args"]["index"] == row["id"]

    assert wallet.owns("USDC") == before["USDC"] - deposited + 7_000_001
    assert wallet.owns("XOM") == before["XOM"] + 5 * XOM
    assert units(balance(devnet, 3, address, "USDC"), 6) == had + deposited - paid - 7_000_001
    assert units(balance(devnet, 3, address, "XOM"), 18) == had_xom
    states = devnet.rpc(1, "omni_getWithdrawals", address=address)["withdrawals"]
    assert len(states) == 2


def provable(devnet: Devnet, index: int) -> Any:
    """Return the proof of a withdrawal once there is one."""
    try:
        return devnet.rpc(3, "omni_getWithdrawalProof", id=index)
    except UserError as error:
        if error.reason in {"not_checkpointed", "unknown_withdrawal"}:
            return None
        raise


def test_the_commands_move_money_both_ways(devnet: Devnet) -> None:
    bob = ("--from", "bob", "--asset", "ETH")
    wallet = Wallet(devnet, "bob", validator=1)
    before = wallet.owns("ETH")
    amount = "0.000000000000000007"
    deposit = devnet.omninode("account", "deposit", *bob, "--amount", amount, "--subaccount", "3")
    assert deposit["state"] == "credited"
    assert deposit["address"] == f"{wallet.account.address}/3"
    assert wallet.owns("ETH") == before - 7
    asked = ("account", "withdraw", *bob, "--amount", amount, "--subaccount", "3")
    carol = Wallet(devnet, "carol", validator=1)
    carol_before = carol.owns("ETH")
    row = devnet.omninode(*asked, "--recipient", "carol")
    claimed = devnet.omninode("account", "claim", str(row["id"]), "--from", "dave")
    assert claimed["recipient"] == carol.account.address
    assert claimed["amount"] == amount
    assert carol.owns("ETH") == carol_before + 7
    again = devnet.run("account", "claim", str(row["id"]), "--from", "dave")
    assert again.returncode == 1
    assert json.loads(again.stdout)["error"]["reason"] == "already_claimed"


def test_the_commands_of_the_readme_work(devnet: Devnet) -> None:
    """In their order, with this devnet's home and ports."""
    text = README.read_text().replace("\\\n", " ")
    commands = re.findall(r"^    \.venv/bin/omninode (.+)$", text, re.MULTILINE)
    assert len(commands) >= 6
    withdrawal = ""
    for command in commands:
        words = shlex.split(command)
        if words[:2] == ["--home", "~/.omninode/devnet"]:
            words = words[2:]
        port = re.compile(r"(?<=127\.0\.0\.1:)36(\d{3})$")
        words = [port.sub(lambda found: str(PORT - 650 + int(found[1])), word) for word in words]
        words = [withdrawal if word == "ID" else word for word in words]
        document = devnet.omninode(*words)
        withdrawal = str(document.get("id", withdrawal))


def test_the_program_of_the_contracts_page_deposits(devnet: Devnet, tmp_path: Path) -> None:
    (program,) = re.findall(
        r"^```python\n(.+?)^```$", CONTRACT_PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    (tmp_path / "deposit.py").write_text(program)
    wallet = Wallet(devnet, "bob", validator=1)
    before = wallet.owns("USDC")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "deposit.py"), str(devnet.home)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "of 2500000 units is credited" in done.stdout
    assert wallet.owns("USDC") == before - 2_500_000


def test_the_contracts_page_has_its_functions_and_events() -> None:
    page = " ".join(CONTRACT_PAGE.read_text().split())
    for entry in load_artifact("Settlement").abi:
        if entry["type"] == "event" and entry["name"] in {"Deposited", "Withdrawn", "Checkpointed"}:
            fields = ", ".join(
                f"{field['type']} {'indexed ' * field['indexed']}{field['name']}"
                for field in entry["inputs"]
            )
            assert f"event {entry['name']}({fields})" in page
        if entry.get("name") in {"deposit", "withdraw", "isWithdrawn", "submitCheckpoint"}:
            fields = ", ".join(
                f"{field['type'].replace('tuple', 'Checkpoint')} {field['name']}"
                for field in entry["inputs"]
            )
            assert f"`{entry['name']}({fields})" in page


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("deposit", "--asset", "USDC", "--amount", "1000000000"), "insufficient_balance"),
        (("deposit", "--asset", "GOLD", "--amount", "1"), "unknown_asset"),
        (("withdraw", "--asset", "USDC", "--amount", "1000000000"), "insufficient_balance"),
        (("claim", "123456"), "unknown_withdrawal"),
    ],
)
def test_what_can_not_be_is_refused_in_one_line(
    devnet: Devnet, words: tuple[str, ...], reason: str
) -> None:
    done = devnet.run("account", *words, "--from", "carol")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["reason"] == reason
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "Traceback" not in done.stderr


def test_all_balances_are_backed_while_money_moves(devnet: Devnet) -> None:
    endpoint = json.loads((devnet.home / "devnet.json").read_text())["chain"]["url"]
    for words in ((), ("--endpoint", endpoint)):
        document = devnet.omninode("verify", *words)
        assert document["ok"] is True
        assert document["equal"] is True
        assert [row["asset"] for row in document["assets"]] == ["USDC", "BTC", "ETH", "XOM"]


def test_a_killed_chain_comes_back_with_everything(devnet: Devnet) -> None:
    (victim,) = (
        process for process, words in processes_of(devnet.home).items() if "chain" in words
    )
    block = int(devnet.rpc(0, "eth_blockNumber"), 16)
    before = credited(devnet)
    os.kill(victim, signal.SIGKILL)
    height = devnet.height(1)
    wait_for(lambda: devnet.height(1) > height + 5, seconds=20, why="trading goes on")
    wait_for(
        lambda: any("chain" in words for words in processes_of(devnet.home).values()),
        seconds=20,
        why="the chain is started again",
    )
    wait_for(lambda: credited(devnet) > before + 1, seconds=60, why="deposits are credited again")
    # What is credited may have been confirmed before: node 0 need not have its endpoint back yet.
    wait_for(lambda: block_number(devnet) > block, seconds=60, why="node 0 passes calls on again")
    assert devnet.omninode("verify")["equal"] is True


def block_number(devnet: Devnet) -> int:
    """Return the chain's height as node 0 passes it on; -1 while it has no endpoint."""
    try:
        return int(devnet.rpc(0, "eth_blockNumber"), 16)
    except UserError as error:
        if error.reason != "settlement_unreachable":
            raise
        return -1


def credited(devnet: Devnet) -> int:
    return int(devnet.rpc(0, "omni_getSupply")["deposits"]["count"])


def test_started_again_both_sides_go_on_and_end_equal(devnet: Devnet) -> None:
    """Stopped in the middle of deposits and withdrawals; the next run claims what was left.

    The chain's process dies just before: it is started again, and both sides are compared.
    """
    (victim,) = (
        process for process, words in processes_of(devnet.home).items() if "chain" in words
    )
    os.kill(victim, signal.SIGKILL)
    assert devnet.stop() == 0, devnet.shown()
    shown = devnet.shown()
    assert re.search(r"waiting for \d+ orders to become final, at most 10 s", shown)
    assert re.search(r"^both sides equal +yes$", shown, re.MULTILINE), shown
    again = Devnet(devnet.home, "--for", "8", "--json", base_port=PORT)
    assert again.process.wait(timeout=200) == 0, again.shown()
    document = json.loads(again.out.read_text())
    assert document["ok"] is True, again.shown()
    assert document["supply_equal"] is True
    for what in ("deposits", "withdrawals", "checkpoints"):
        assert document[what] > 0, document
    assert "contracts are on the chain" not in again.err.read_text()
    assert processes_of(devnet.home) == {}


def test_another_evm_takes_the_place_of_ours(
    tmp_path: Path, npm_program: Callable[[str], str]
) -> None:
    npm_program("anvil")
    anvil = Devnet(
        tmp_path, "--chain", "anvil", "--for", "5", "--json", "--validators", "1", base_port=PORT
    )
    assert anvil.process.wait(timeout=200) == 0, anvil.shown()
    document = json.loads(anvil.out.read_text())
    assert document["supply_equal"] is True
    assert document["deposits"] > 0
    assert document["withdrawals"] > 0
    assert processes_of(tmp_path) == {}


def test_a_node_refuses_a_developers_chain_unless_it_is_allowed(devnet: Devnet) -> None:
    node = Devnet.words(devnet.home / "node0", "start", "--set", "settlement.allow_dev_chain=false")
    done = subprocess.run(node, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "31337" in json.loads(done.stdout)["error"]["message"]


def test_a_devnet_of_a_version_without_settlement_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "devnet.json").write_text('{"validators": 4, "seed": 1, "base_port": 36650}')
    old = Devnet(tmp_path, "--json", base_port=PORT)
    assert old.process.wait(timeout=30) == 2
    assert "--reset" in json.loads(old.out.read_text())["error"]["hint"]


def test_a_port_for_two_is_wrong_usage_before_anything_is_written(tmp_path: Path) -> None:
    wrong = Devnet(tmp_path / "new", "--chain-port", str(PORT + 1), "--json", base_port=PORT)
    assert wrong.process.wait(timeout=30) == 2
    assert f"--chain-port {PORT + 1}" in json.loads(wrong.out.read_text())["error"]["message"]
    assert not (tmp_path / "new").exists()
