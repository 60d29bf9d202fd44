"""`account deposit|withdraw|claim` before a real chain: refusals, silence, a broken connection."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from money_node import MoneyNode
from omninode.crypto import checksum_address
from omninode.node.cli.main import main

pytestmark = pytest.mark.slow

SEND = "eth_sendRawTransaction"
HASH = re.compile("0x[0-9a-f]{64}")
ZERO = "0x" + "00" * 20
USDC = ("--asset", "USDC", "--amount")


class Shell:
    """Runs `account` commands of alice, or of somebody else."""

    def __init__(self, capsys: pytest.CaptureFixture[str], node: MoneyNode, keystore: Path) -> None:
        self._capsys = capsys
        self._options = ("--rpc", node.url, "--keystore", str(keystore), "--json")
        self.told = ""

    def run(self, *words: str, who: str = "alice") -> tuple[int, dict[str, Any]]:
        code = main(["account", *words, "--from", who, *self._options])
        out, self.told = self._capsys.readouterr()
        return code, json.loads(out)

    def refused(self, *words: str, who: str = "alice") -> tuple[int, str, str]:
        """Return exit code, reason, and message with hint, which there must be."""
        code, document = self.run(*words, who=who)
        error = document["error"]
        assert error["hint"]
        assert "defect" not in error["hint"]
        return code, error["reason"], f"{error['message']} {error['hint']}"


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], node: MoneyNode, keystore: Path) -> Shell:
    return Shell(capsys, node, keystore)


@pytest.mark.parametrize("number", [2**53, 2**64, 10**300])
def test_an_id_that_can_not_be_is_wrong_usage(shell: Shell, number: int) -> None:
    code, _, text = shell.refused("claim", str(number))
    assert code == 2
    assert str(2**53 - 1) in text


def test_the_largest_id_is_unknown(shell: Shell) -> None:
    code, document = shell.run("claim", str(2**53 - 1))
    assert (code, document["error"]["reason"]) == (1, "unknown_withdrawal")


@pytest.mark.parametrize(
    ("words", "reason", "said"),
    [
        ((*USDC, "1", "--to", ZERO), "invalid_recipient", "zero address"),
        ((*USDC, "1", "--to", "CONTRACT"), "invalid_recipient", "settlement contract"),
        ((*USDC, "1", "--to", "TOKEN"), "invalid_recipient", "token's contract"),
        ((*USDC, "0.0000001"), "off_grid", "USDC has 6"),
        ((*USDC, "9" * 39), "wrong_amount", "too large"),
        ((*USDC, "999999999999"), "insufficient_balance", "on the settlement chain"),
        (("--asset", "GOLD", "--amount", "1"), "unknown_asset", "there are USDC"),
    ],
)
def test_a_deposit_that_can_not_be_sends_nothing(
    shell: Shell, node: MoneyNode, words: tuple[str, ...], reason: str, said: str
) -> None:
    places = {"CONTRACT": checksum_address(node.contract), "TOKEN": checksum_address(node.token)}
    code, found, text = shell.refused("deposit", *(places.get(word, word) for word in words))
    assert (code, found) == (1, reason)
    assert said in text
    assert SEND not in node.calls
    assert "approving" not in shell.told


def test_who_has_no_tokens_or_coins_sends_nothing(shell: Shell, node: MoneyNode) -> None:
    assert shell.refused("deposit", *USDC, "1", who="bob")[:2] == (1, "insufficient_balance")
    assert shell.refused("claim", "0", who="bob")[:2] == (1, "no_coins")
    assert SEND not in node.calls


@pytest.mark.parametrize(
    ("words", "reason", "said"),
    [
        ((*USDC, "1", "--recipient", ZERO), "invalid_recipient", "zero address"),
        ((*USDC, "1", "--recipient", "CONTRACT"), "invalid_recipient", "settlement contract"),
        ((*USDC, "0.0000001"), "off_grid", "USDC has 6"),
        ((*USDC, "3"), "insufficient_balance", "2.5 USDC free, not 3"),
        (("--asset", "GOLD", "--amount", "1"), "unknown_asset", "there are USDC"),
    ],
)
def test_a_withdrawal_that_can_not_be_is_not_begun(
    shell: Shell, node: MoneyNode, words: tuple[str, ...], reason: str, said: str
) -> None:
    contract = checksum_address(node.contract)
    chosen = (contract if word == "CONTRACT" else word for word in words)
    code, found, text = shell.refused("withdraw", *chosen)
    assert (code, found) == (1, reason)
    assert said in text
    assert "withdrawing" not in shell.told
    assert "omni_sendTransactionSync" not in node.calls


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("withdraw", *USDC, "1", "--recipient", "bob/3"), "--subaccount"),
        (("deposit", *USDC, "1", "--to", "bob/1000"), "at most 999"),
        (("deposit", *USDC, "1", "--to", "bob/3", "--subaccount", "4"), "two subaccounts"),
        (("deposit", *USDC, "9" * 300), "too large"),
        (("withdraw", *USDC, "0." + "1" * 300), "too fine"),
    ],
)
def test_wrong_usage_is_named(shell: Shell, words: tuple[str, ...], said: str) -> None:
    code, document = shell.run(*words)
    assert code == 2
    assert said in document["error"]["message"] + document["error"]["hint"]


def test_a_key_has_no_subaccounts(shell: Shell) -> None:
    code, _, text = shell.refused("deposit", *USDC, "1", who="alice/3")
    assert code == 2
    assert "--subaccount" in text


def test_a_deposit_waits_while_the_chain_is_silent(shell: Shell, node: MoneyNode) -> None:
    node.silent = 3
    code, document = shell.run("deposit", *USDC, "0.000001", "--to", "bob/3")
    assert (code, document["state"]) == (0, "credited")
    assert document["address"] == checksum_address(node.keys["bob"].address) + "/3"
    assert "does not answer: waiting" in shell.told
    assert "answers again" in shell.told
    assert node.silent == 0


def test_a_claim_waits_and_a_broken_connection_names_the_transaction(
    shell: Shell, node: MoneyNode
) -> None:
    node.silent = 3
    code, document = shell.run("claim", "0")
    assert (code, document["state"], document["amount"]) == (0, "claimed", "0.000005")
    assert "does not answer: waiting" in shell.told
    assert shell.refused("claim", "0")[:2] == (1, "already_claimed")

    node.reset()
    node.broken_after = SEND
    code, reason, text = shell.refused("claim", "1")
    assert (code, reason) == (1, "node_unreachable")
    assert HASH.search(text)
    assert "safe to repeat" in text
    node.broken_after = ""
    code, document = shell.run("claim", "1")
    reasons = {document["state"]} if code == 0 else {document["error"]["reason"]}
    assert reasons <= {"claimed", "already_claimed"}
