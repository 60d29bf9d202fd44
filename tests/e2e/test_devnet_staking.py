"""A fifth validator joins a running devnet, contradicts itself, and is slashed on both sides."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from omninode.consensus.types import Vote, VoteKind, vote_digest
from omninode.crypto import SigningKey, checksum_address
from omninode.dex.eip712 import Domain
from omninode.dex.staking.statements import ReportEvidence
from omninode.dex.transaction import sign_validator
from omninode.node.client import RpcClient
from omninode.node.funds.calls import encode_call
from omninode.node.genesis_file import read_genesis
from omninode.node.home import Home
from omninode.node.keys.keystore import read_keystore
from real_devnet import BASE_PORT, Devnet, processes_of, wait_for

pytestmark = pytest.mark.slow

PORT = BASE_PORT + 50
FIFTH_PORT = PORT + 45
STAKE = 5_000
JOIN_DEADLINE_S = 240
"""Two epochs of 30 s, on a machine that does other things as well."""


class Fifth:
    """The home of a validator that is not in genesis, and its process once it runs."""

    def __init__(self, devnet: Devnet, path: Path) -> None:
        self.home = Home(path)
        self._devnet = devnet
        described = json.loads((devnet.home / "devnet.json").read_text())
        self.chain = described["chain"]
        self._make([node["p2p"] for node in described["nodes"]])
        self.process: subprocess.Popen[bytes] | None = None

    def _make(self, peers: list[str]) -> None:
        settings = {
            "p2p.listen": json.dumps([f"/ip4/127.0.0.1/tcp/{FIFTH_PORT}"]),
            "p2p.peers": json.dumps(peers),
            "rpc.port": str(FIFTH_PORT + 1),
            "metrics.port": str(FIFTH_PORT + 2),
            "settlement.endpoints": json.dumps([self.chain["url"]]),
            "settlement.allow_dev_chain": "true",
        }
        words = ["init", "--genesis", str(self._devnet.home / "node0" / "genesis.json")]
        words += ["--moniker", "fifth"]
        for name, value in settings.items():
            words += ["--set", f"{name}={value}"]
        self.run(*words)

    def run(self, *words: str) -> dict[str, Any]:
        """Run a command in this home that succeeds; returns its document."""
        done = subprocess.run(
            Devnet.words(self.home.path, *words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=JOIN_DEADLINE_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    def stake(self, *words: str) -> dict[str, Any]:
        """Run a `stake` command of alice's."""
        account = ["alice"] if words[0] == "status" else ["--from", "alice", "--yes"]
        folder = str(self._devnet.home / "accounts")
        return self.run("stake", *words, *account, "--keystore", folder)

    def start(self) -> None:
        with (self.home.path / "out").open("wb") as log:
            self.process = subprocess.Popen(
                Devnet.words(self.home.path, "start"),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=30)

    def vote_key(self) -> SigningKey:
        return vote_key(self.home)


def vote_key(home: Home) -> SigningKey:
    return read_keystore(home.validator_keystore, home.validator_password.read_text().strip())


@pytest.fixture(scope="module")
def devnet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    home = tmp_path_factory.mktemp("staking") / "devnet"
    running = Devnet(home, "--speed", "0.1", base_port=PORT)
    yield running.ready()
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGINT)
        running.process.wait(timeout=60)
    assert not processes_of(running.home)


@pytest.fixture
def fifth(devnet: Devnet, tmp_path: Path) -> Iterator[Fifth]:
    made = Fifth(devnet, tmp_path / "fifth")
    yield made
    made.stop()


def member(devnet: Devnet, address: str) -> dict[str, Any]:
    rows = devnet.rpc(0, "omni_getValidators")["validators"]
    return next((row for row in rows if row["address"] == address), {})


def read(fifth: Fifth, signature: str, *arguments: object) -> int:
    """Read a number from the contract."""
    data = "0x" + encode_call(signature, arguments).hex()
    request = [{"to": fifth.chain["settlement"], "data": data}, "latest"]
    with RpcClient(fifth.chain["url"]) as chain:
        return int(chain.call("eth_call", request), 16)


def contradiction(key: SigningKey, genesis_hash: bytes) -> ReportEvidence:
    """Two votes for two blocks in one view, as no honest guard lets a key sign."""

    def vote(block_hash: bytes) -> Vote:
        kind = VoteKind.NOTARIZE
        digest = vote_digest(genesis_hash, kind, epoch=0, view=10**6, block_hash=block_hash)
        return Vote(kind, 0, 10**6, block_hash, 0, key.sign(digest))

    return ReportEvidence(vote(b"\x01" * 32), vote(b"\x02" * 32))


def report(devnet: Devnet, key: SigningKey) -> None:
    """Let a validator of genesis tell what the key signed."""
    home = Home(devnet.home / "node1")
    genesis = read_genesis(home.genesis)
    transaction = sign_validator(
        vote_key(home),
        contradiction(key, genesis.hash),
        nonce=time.time_ns() // 1_000_000,
        domain=Domain(genesis.settlement_chain_id, genesis.hash),
    )
    devnet.rpc(1, "omni_sendTransaction", tx="0x" + transaction.raw.hex())


def test_a_fifth_validator_joins_and_is_slashed_on_both_sides(devnet: Devnet, fifth: Fifth) -> None:
    key = fifth.vote_key()
    address = checksum_address(key.address)

    # Registered before its node runs: the chain's endpoint is asked itself.
    asked = fifth.stake("register", "--amount", str(STAKE))
    assert (asked["state"], asked["request"]) == ("requested", "register")
    owner = asked["owner"]
    assert read(fifth, "stakeOf(address)", owner) == STAKE * 10**18
    fifth.start()
    wait_for(
        lambda: member(devnet, address).get("status") == "active",
        seconds=JOIN_DEADLINE_S,
        why="the fifth validator is in the set",
    )
    # The contract trusts the new set, and takes its checkpoints.
    wait_for(lambda: read(fifth, "epoch()") > 0, seconds=60, why="the set has been handed over to")
    number = devnet.rpc(0, "omni_status")["settlement"]["checkpoint"]
    wait_for(
        lambda: (devnet.rpc(0, "omni_status")["settlement"]["checkpoint"] or 0) > number + 1,
        seconds=60,
        why="the new set's checkpoints are taken",
    )
    report(devnet, key)
    wait_for(
        lambda: member(devnet, address).get("status") == "tombstoned",
        seconds=60,
        why="the evidence was judged",
    )
    wait_for(
        lambda: read(fifth, "stakeCheckpoint(address)", owner) > 0,
        seconds=90,
        why="the slash was carried to the contract",
    )
    left = read(fifth, "stakeOf(address)", owner)
    assert left < STAKE * 10**18 * 95 // 100
    shown = fifth.stake("status", "--rpc", f"http://127.0.0.1:{PORT + 1}")
    assert shown["contract"]["proven_by_checkpoint"] > 0
    # The network never stopped, and every token is where it should be.
    height = devnet.height(0)
    wait_for(lambda: devnet.height(0) > height + 5, seconds=60, why="blocks go on")
    assert devnet.omninode("verify", "--rpc", f"http://127.0.0.1:{PORT + 1}")["ok"]
