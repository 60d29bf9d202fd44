"""`omninode stake` before a real chain with the contract: what is shown, sent, refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode

from money_node import MoneyNode
from omninode.crypto import checksum_address
from omninode.dex.staking.identity import check_identity, decode_identity
from omninode.node.cli.main import main
from omninode.node.client import RpcClient
from omninode.node.home import Home

pytestmark = pytest.mark.slow

SEND = "eth_sendRawTransaction"
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, shared_node: MoneyNode) -> Home:
    """The home of a validator of that network, as `init` makes it."""
    folder = tmp_path_factory.mktemp("validator")
    genesis = folder / "network.json"
    genesis.write_bytes(shared_node.genesis.to_json())
    made = Home(folder / "home")
    words = ["init", "--genesis", str(genesis), "--moniker", "fifth", "--home", str(made.path)]
    assert main(words) == 0
    return made


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], node: MoneyNode, keystore: Path, home: Home) -> Shell:
    capsys.readouterr()
    return Shell(capsys, node, keystore, home)


class Shell:
    """Runs `stake` commands in that home.

    Attributes:
        told: What the last one said on stderr.
    """

    def __init__(
        self, capsys: pytest.CaptureFixture[str], node: MoneyNode, keystore: Path, home: Home
    ) -> None:
        self._capsys = capsys
        self._home = ("--home", str(home.path), "--json")
        self._rpc = ("--rpc", node.url)
        self._keystore = ("--keystore", str(keystore))
        self.told = ""

    def run(
        self, *words: str, who: str = "alice", yes: bool = True, rpc: bool = True
    ) -> tuple[int, dict[str, Any]]:
        account = [who] if words[0] == "status" else ["--from", who]
        sure = ["--yes"] if yes and words[0] != "status" else []
        where = self._rpc if rpc else ()
        code = main(["stake", *words, *account, *sure, *where, *self._keystore, *self._home])
        out, self.told = self._capsys.readouterr()
        return code, json.loads(out)

    def refused(self, *words: str, **options: Any) -> tuple[int, str, str]:
        """Return exit code, reason, and message with hint, which there must be."""
        code, document = self.run(*words, **options)
        error = document["error"]
        assert error["hint"]
        return code, error["reason"], f"{error['message']} {error['hint']}"


def test_what_can_not_be_sends_nothing(shell: Shell, node: MoneyNode) -> None:
    code, reason, text = shell.refused("register", "--amount", "999.5")
    assert (code, reason) == (1, "below_minimum")
    assert "1000 XOM" in text
    assert shell.run("register", "--amount", "1e3")[0] == 2
    assert shell.refused("register", "--amount", "999999999")[:2] == (1, "insufficient_balance")
    assert shell.refused("deposit", "--amount", "9" * 39)[1] == "wrong_amount"
    assert shell.refused("deposit", "--amount", "5", who="bob")[1] == "insufficient_balance"
    assert shell.refused("exit", who="bob")[1] == "no_coins"
    code, _, text = shell.refused("register", "--amount", "1000", yes=False)
    assert code == 2
    assert "--yes" in text
    assert SEND not in node.calls


def test_a_life_of_a_stake(shell: Shell, node: MoneyNode) -> None:
    alice = node.keys["alice"].address
    code, document = shell.run("register", "--amount", "1500")
    assert code == 0, document
    assert (document["request"], document["state"]) == ("register", "taken")
    assert document["owner"] == checksum_address(alice)
    # What was signed was shown: all of the call, and whose keys are in it.
    shown = dict(line.split(maxsplit=1) for line in shell.told.splitlines() if "  " in line)
    assert shown["amount"] == "1500 XOM"
    assert shown["moniker"] == "fifth"
    assert shown["to"] == checksum_address(node.contract)
    with RpcClient(node.chain_url) as chain:
        sent = chain.call("eth_getTransactionByHash", [document["transaction"]])
    assert sent["input"] == shown["data"]
    units, encoded = decode(["uint256", "bytes"], bytes.fromhex(sent["input"][10:]))
    assert units == 1_500 * 10**18
    identity = decode_identity(encoded)
    address = check_identity(identity, alice, node.genesis.hash)
    assert checksum_address(address) == shown["validator"]
    assert (identity.peer_id, identity.moniker) == (shown["peer_id"], "fifth")
    assert identity.beacon_proof

    assert shell.refused("register", "--amount", "1500")[1] == "already_registered"
    code, document = shell.run("deposit", "--amount", "0.5")
    assert (code, document["state"], document["amount"]) == (0, "taken", "0.5")
    code, document = shell.run("withdraw", "--amount", "200")
    assert (code, document["request"], document["approval"]) == (0, "withdraw", None)
    code, document = shell.run("status")
    assert code == 0
    assert document == {
        "owner": checksum_address(alice),
        "asset": "XOM",
        "contract": {"registered": True, "stake": "1300.5", "proven_by_checkpoint": None},
        "exchange": {"bonded": "1300.5", "unbonding": "0", "validator": None},
    }
    assert shell.run("unjail")[0] == 0
    code, document = shell.run("exit", "--no-wait")
    assert (code, document["state"]) == (0, "requested")
    code, document = shell.run("status")
    assert document["contract"]["registered"] is False


def test_a_stake_that_the_exchange_refuses_is_told(shell: Shell, node: MoneyNode) -> None:
    node.takes_stake = False
    code, reason, text = shell.refused("deposit", "--amount", "1")
    assert (code, reason) == (1, "stake_refused")
    assert "account show" in text


def test_before_the_node_runs_the_chains_endpoint_is_asked(
    shell: Shell, node: MoneyNode, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNINODE_RPC__PORT", "9")
    code, reason, text = shell.refused("status", rpc=False)
    assert (code, reason) == (1, "node_unreachable")
    assert "--rpc" in text
    monkeypatch.setenv("OMNINODE_SETTLEMENT__ENDPOINTS", json.dumps([node.chain_url]))
    code, document = shell.run("register", "--amount", "1500", rpc=False)
    assert (code, document["state"]) == (0, "requested"), "no node is there to tell more"
    assert SEND not in node.calls
    with RpcClient(node.chain_url) as chain:
        assert chain.call("eth_getTransactionByHash", [document["transaction"]]) is not None


def test_a_home_of_another_network_registers_nothing(
    shell: Shell, node: MoneyNode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Home(tmp_path / "other")
    assert main(["init", "--home", str(other.path)]) == 0
    capsys.readouterr()
    words = ["stake", "register", "--amount", "1000", "--from", "alice", "--yes", "--json"]
    words += ["--rpc", node.url, "--keystore", str(tmp_path / "keys"), "--home", str(other.path)]
    assert main(words) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "another network" in error["message"]
    assert SEND not in node.calls
