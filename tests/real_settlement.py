"""A network of real processes that settles on a real chain process, with a gate between the two.

Every validator asks the chain through gates of its own. Tests ask the chain itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import eth_abi
import msgspec
import trio
from eth_account import Account

from omninode.contracts.endpoint import Endpoint
from omninode.crypto import SigningKey, checksum_address, keccak256, parse_address
from omninode.dex.actions import AttestDeposits, SignCheckpoint, Withdraw
from omninode.dex.bridge.deposits import Cursor, Deposit, next_deposit_hash
from omninode.dex.decimals import format_units, parse_units
from omninode.dex.eip712 import Domain
from omninode.dex.genesis import Genesis, GenesisSettlement, check_genesis
from omninode.dex.transaction import sign_validator
from omninode.encoding import amount_to_bytes
from omninode.errors import UserError
from omninode.node.devnet.deployment import deploy, deployment_calls, plan_contracts
from omninode.node.keys.keystore import read_keystore
from omninode.node.local_genesis import ASSETS
from real_chain import ChainProcess, Gate
from real_network import (
    PORTS_PER_NODE,
    SYNC_DEADLINE_S,
    RealNetwork,
    RealNode,
    free_ports,
    until,
)
from real_trading import Trader

CONFIRMATIONS: Final = 4
CHECKPOINT_INTERVAL_MS: Final = 1_000
POLL_INTERVAL_MS: Final = 100
REQUEST_TIMEOUT_MS: Final = 1_500
SETTLING_S: Final = 60
"""Deposited and credited, or checkpointed on the chain; it takes some seconds."""

DEPLOYER: Final = SigningKey(b"\xdd" * 32)
GAS: Final = 400_000
WEI_PER_GAS: Final = 10**10
MAX_UNITS: Final = 2**256 - 1

DEPOSITED: Final = "Deposited(uint64,address,address,uint16,uint256,bytes32)"
WITHDRAWN: Final = "Withdrawn(uint64,address,address,uint256)"
CHECKPOINTED: Final = (
    "Checkpointed(uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32,uint64,uint64)"
)


SUBMIT: Final = keccak256(
    b"submitCheckpoint((uint64,uint64,uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32)"
    b",bytes32[],uint256,bytes)"
)[:4]


def topic(text: str) -> str:
    """Return the hash that names an event."""
    return "0x" + keccak256(text.encode()).hex()


def calldata(text: str, *arguments: Any) -> str:
    """Return the data that calls a function."""
    kinds = [kind for kind in text[text.index("(") + 1 : -1].split(",") if kind]
    return "0x" + (keccak256(text.encode())[:4] + eth_abi.encode(kinds, arguments)).hex()


@dataclass(frozen=True)
class Made:
    """A deposit as the contract logged it."""

    index: int
    deposit: Deposit
    hash: bytes
    block: int
    amount: int
    transaction: str

    @property
    def token(self) -> bytes:
        return self.deposit.token


@dataclass(frozen=True)
class Submitted:
    """A checkpoint as the contract logged it."""

    number: int
    height: int
    state_root: str
    deposit_count: int
    transaction: str


class Contract:
    """The settlement contract and the tokens, asked at the chain itself."""

    def __init__(self, chain: ChainProcess, genesis: Genesis) -> None:
        settlement = genesis.settlement
        assert settlement is not None
        self.chain = chain
        self.address = parse_address(settlement.contract)
        self.tokens = {asset.name: parse_address(asset.token) for asset in genesis.assets}

    def read(self, address: bytes, text: str, *arguments: Any) -> int:
        call = {"to": checksum_address(address), "data": calldata(text, *arguments)}
        return int(self.chain.call("eth_call", call, "latest"), 16)

    def balance(self, asset: str, owner: bytes) -> int:
        """Return an account's tokens in base units."""
        return self.read(self.tokens[asset], "balanceOf(address)", owner)

    def vault(self, asset: str) -> int:
        return self.balance(asset, self.address)

    def cursor(self) -> Cursor:
        """Return the contract's own count and hash of deposits."""
        count = self.read(self.address, "depositCount()")
        return Cursor(count, self.read(self.address, "depositHash()").to_bytes(32, "big"))

    def newest_checkpoint(self) -> int:
        call = {"to": checksum_address(self.address), "data": calldata("latestCheckpoint()")}
        return int(self.chain.call("eth_call", call, "latest")[2:66], 16)

    def logs(self, text: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        """Return all events of a kind with their words, topics first."""
        wanted = {
            "address": checksum_address(self.address),
            "topics": [topic(text)],
            "fromBlock": "0x0",
            "toBlock": "latest",
        }
        found = []
        for log in self.chain.call("eth_getLogs", wanted):
            data = bytes.fromhex("".join(word[2:] for word in [*log["topics"][1:], log["data"]]))
            found.append((log, [data[at : at + 32] for at in range(0, len(data), 32)]))
        return found

    def effects(self, transaction: str) -> list[Submitted]:
        """Return the checkpoints that a transaction brought."""
        return [one for one in self.checkpoints() if one.transaction == transaction]

    def deposits(self) -> list[Made]:
        made = []
        for log, words in self.logs(DEPOSITED):
            numbers = [int.from_bytes(word, "big") for word in words]
            deposit = Deposit(words[1][12:], words[2][12:], numbers[3], amount_to_bytes(numbers[4]))
            block, transaction = int(log["blockNumber"], 16), log["transactionHash"]
            made.append(Made(numbers[0], deposit, words[5], block, numbers[4], transaction))
        return made

    def withdrawals(self) -> dict[int, tuple[bytes, bytes, int]]:
        """Return token, recipient and amount of what was paid out, by index."""
        found = {}
        for _, words in self.logs(WITHDRAWN):
            index = int.from_bytes(words[0], "big")
            assert index not in found, f"withdrawal {index} was paid twice"
            found[index] = (words[1][12:], words[2][12:], int.from_bytes(words[3], "big"))
        return found

    def checkpoints(self) -> list[Submitted]:
        found = []
        for log, words in self.logs(CHECKPOINTED):
            number, height, deposits = (int.from_bytes(words[at], "big") for at in (0, 1, 6))
            state_root = "0x" + words[2].hex()
            found.append(Submitted(number, height, state_root, deposits, log["transactionHash"]))
        return found


class Holder:
    """Somebody with coins and tokens on the chain, who is a trader on the exchange as well."""

    def __init__(self, network: SettledNetwork, key: SigningKey) -> None:
        self.key = key
        self.address = key.address
        self.trader = Trader(network, key)
        self.raws: dict[str, str] = {}
        self._network = network
        self._contract = network.contract

    def send(self, to: bytes, data: str) -> str:
        """Send a transaction to the chain; returns its hash."""
        chain = self._network.chain
        nonce = int(chain.call("eth_getTransactionCount", self._text, "pending"), 16)
        fields = {
            "type": 2,
            "chainId": self._network.genesis.settlement_chain_id,
            "nonce": nonce,
            "to": checksum_address(to),
            "value": 0,
            "data": data,
            "gas": GAS,
            "maxFeePerGas": WEI_PER_GAS,
            "maxPriorityFeePerGas": WEI_PER_GAS,
        }
        raw = Account.sign_transaction(fields, self.key.secret).raw_transaction.to_0x_hex()
        transaction = str(chain.call("eth_sendRawTransaction", raw))
        self.raws[transaction] = raw
        return transaction

    def wait_mined(self, transaction: str) -> dict[str, Any]:
        chain = self._network.chain
        receipt: dict[str, Any] = until(
            lambda: chain.call("eth_getTransactionReceipt", transaction),
            SETTLING_S,
            why=chain.log_tail,
        )
        return receipt

    def approve_all(self) -> None:
        """Let the contract take every token, once for all deposits."""
        for token in self._contract.tokens.values():
            approval = calldata("approve(address,uint256)", self._contract.address, MAX_UNITS)
            last = self.send(token, approval)
        assert self.wait_mined(last)["status"] == "0x1"

    def deposit(self, asset: str, amount: str, subaccount: int = 0) -> Made:
        """Deposit tokens for the own account and wait until that is in a block."""
        transaction = self.send_deposit(asset, amount, subaccount)
        receipt = self.wait_mined(transaction)
        assert receipt["status"] == "0x1", receipt
        block = int(receipt["blockNumber"], 16)
        return next(
            made
            for made in self._contract.deposits()
            if made.block == block and made.deposit.account == self.address
        )

    def send_deposit(self, asset: str, amount: str, subaccount: int = 0) -> str:
        """Send a deposit without waiting for anything."""
        units = self._network.units(asset, amount)
        token = self._contract.tokens[asset]
        text = "deposit(address,uint256,address,uint16)"
        data = calldata(text, token, units, self.address, subaccount)
        return self.send(self._contract.address, data)

    def withdraw(self, node: RealNode, asset: str, amount: str) -> int:
        """Ask the exchange to pay out to the own address; returns the withdrawal's index."""
        before = {row["id"] for row in self.withdrawals(node)}
        result = self.trader.send(node, Withdraw(0, asset, amount, self.address))
        assert result["state"] == "final", result
        (index,) = {row["id"] for row in self.withdrawals(node)} - before
        return int(index)

    def withdrawals(self, node: RealNode) -> list[dict[str, Any]]:
        rows = node.call("omni_getWithdrawals", address=self._text, limit=100)["withdrawals"]
        return list(rows)

    def claim(self, node: RealNode, index: int) -> dict[str, Any]:
        """Claim with a node's proof, as soon as there is one; returns the receipt."""

        def proof() -> dict[str, Any] | None:
            try:
                found: dict[str, Any] = node.call("omni_getWithdrawalProof", id=index)
            except UserError as error:
                if error.reason in ("not_checkpointed", "catching_up"):
                    return None
                raise
            return found

        found = until(proof, SETTLING_S, why=self._network.describe_settlement)
        return self.wait_mined(self.send(self._contract.address, found["calldata"]))

    def credited(self, node: RealNode) -> list[dict[str, Any]]:
        """Return the deposits that a node has credited to this account, oldest first."""
        rows = node.call("omni_getDeposits", address=self._text, limit=100)["deposits"]
        return list(reversed(rows))

    def balance(self, node: RealNode, asset: str) -> int:
        """Return what is free on the exchange, in base units."""
        return self._network.units(asset, self.trader.free(node, asset))

    @property
    def _text(self) -> str:
        return checksum_address(self.address)


class SettledNetwork(RealNetwork):
    """Validators that follow a chain, each through gates of its own; made by `settled_network`.

    Attributes:
        gates: Each node's ways to the chain, by its name.
        holders: Two accounts that only a test itself uses, with coins and tokens.
    """

    def __init__(
        self,
        root: Path,
        *,
        chain: ChainProcess,
        ports: Iterator[int],
        endpoints: int = 1,
        validators: int = 4,
        accounts: int = 6,
    ) -> None:
        self.chain = chain
        self.gates: dict[str, list[Gate]] = {}
        self._endpoints = endpoints
        self._nonce = 0
        super().__init__(root, validators=validators, accounts=accounts, ports=ports)
        self.contract = Contract(chain, self.genesis)
        self.holders = [Holder(self, key) for key in self.quiet_accounts]

    def _make_node(self, name: str) -> RealNode:
        first = next(self._ports)
        self.gates[name] = [
            Gate(port, self.chain) for port in range(first, first + self._endpoints)
        ]
        return super()._make_node(name)

    def _make_genesis(self) -> Genesis:
        plan = plan_contracts(DEPLOYER.address, 0, ASSETS)
        tokens = {name: checksum_address(token) for name, token in plan.tokens.items()}
        genesis = super()._make_genesis()
        genesis = msgspec.structs.replace(
            genesis,
            assets=tuple(
                msgspec.structs.replace(asset, token=tokens[asset.name]) for asset in genesis.assets
            ),
            settlement=GenesisSettlement(
                contract=checksum_address(plan.contract),
                start_block=1,
                confirmations=CONFIRMATIONS,
                checkpoint_interval_ms=CHECKPOINT_INTERVAL_MS,
            ),
        )
        check_genesis(genesis)
        return genesis

    def _settings(
        self, node: RealNode, *, mode: str, peers: Sequence[RealNode]
    ) -> dict[str, dict[str, Any]]:
        settings = super()._settings(node, mode=mode, peers=peers)
        settings["settlement"] = {
            "endpoints": [gate.url for gate in self.gates[node.name]],
            "poll_interval_ms": POLL_INTERVAL_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            "allow_dev_chain": True,
        }
        return settings

    def deploy(self, relayers: Sequence[RealNode]) -> None:
        """Put the contracts on the chain, back the genesis balances, hand out coins and tokens."""
        calls = deployment_calls(
            self.genesis,
            plan_contracts(DEPLOYER.address, 0, self.genesis.assets),
            purses=[holder.address for holder in self.holders],
            relayers=[node.identity.relayer for node in relayers],
        )

        async def run() -> None:
            endpoint = Endpoint(self.chain.url, timeout_s=30)
            try:
                plan = plan_contracts(DEPLOYER.address, 0, self.genesis.assets)
                await deploy(endpoint.call, DEPLOYER, self.genesis, plan, calls)
            finally:
                await endpoint.close()

        trio.run(run)
        for holder in self.holders:
            holder.approve_all()

    def destroy(self) -> None:
        super().destroy()
        for gates in self.gates.values():
            for gate in gates:
                gate.close()

    def heal(self) -> None:
        """Open every gate, have every node running, in sync and following the chain."""
        for gate in self.every_gate():
            gate.open()
            gate.forget()
        super().heal()
        self.wait_state("following")
        self.wait_deposits()

    @contextmanager
    def only_relayer(self, node: RealNode) -> Iterator[None]:
        """Let no other validator's transactions reach the chain until the block ends."""
        others = [self.gate(other) for other in self.validators if other is not node]
        for gate in others:
            gate.hold_sends()
        try:
            yield
        finally:
            for gate in others:
                gate.let_pass()

    def assert_relays(self, node: RealNode) -> None:
        """Check that a validator alone brings checkpoints to the chain."""
        before = {one.transaction for one in self.contract.checkpoints()}

        def brought() -> set[str]:
            now = {one.transaction for one in self.contract.checkpoints()}
            return (now - before) & set(self.gate(node).passed)

        with self.only_relayer(node):
            self.wait_for(brought)

    # --- Acting as a validator --------------------------------------------------------------------

    def say(
        self, key: SigningKey, action: AttestDeposits | SignCheckpoint, *, node: RealNode
    ) -> dict[str, Any]:
        """Send a validator's statement, signed with its key; returns the final result."""
        genesis = self.genesis
        domain = Domain(genesis.settlement_chain_id, genesis.hash)
        self._nonce = max(self._nonce + 1, time.time_ns() // 10**6)
        transaction = sign_validator(key, action, nonce=self._nonce, domain=domain)
        return self.send_raw(transaction.raw, node=node)

    def send_raw(self, raw: bytes, *, node: RealNode) -> dict[str, Any]:
        """Send signed bytes; returns the final result."""
        result: dict[str, Any] = node.call(
            "omni_sendTransactionSync", tx="0x" + raw.hex(), timeout_s=15
        )
        assert result["state"] == "final"
        return result

    # --- Words -----------------------------------------------------------------------------------

    def gate(self, node: RealNode) -> Gate:
        """A node's only, or first, way to the chain."""
        return self.gates[node.name][0]

    def every_gate(self) -> list[Gate]:
        return [gate for gates in self.gates.values() for gate in gates]

    def units(self, asset: str, amount: str) -> int:
        return parse_units(amount, self.genesis.assets[self.genesis.asset_index[asset]].decimals)

    def text(self, asset: str, units: int) -> str:
        return format_units(units, self.genesis.assets[self.genesis.asset_index[asset]].decimals)

    def vote_key(self, node: RealNode) -> SigningKey:
        """Return a validator's key, from its home."""
        password = node.home.validator_password.read_text().removesuffix("\n")
        return read_keystore(node.home.validator_keystore, password)

    def number_of(self, node: RealNode, transaction: str) -> int:
        """Return the number of the checkpoint that a validator's transaction brings."""
        raw = self.gate(node).raws[transaction]
        place = raw.index(SUBMIT) + len(SUBMIT)
        return int.from_bytes(raw[place : place + 32], "big")

    def invent(self, holder: Holder, amount: str, *, after: Cursor) -> tuple[Deposit, Cursor]:
        """Return a deposit of USDC that never was, and the cursor after it."""
        units = amount_to_bytes(self.units("USDC", amount))
        deposit = Deposit(self.contract.tokens["USDC"], holder.address, 0, units)
        return deposit, Cursor(after.count + 1, next_deposit_hash(after.hash, after.count, deposit))

    def settlement(self, node: RealNode) -> dict[str, Any]:
        """Return what a node says of its settlement chain."""
        shown = node.status()["settlement"]
        assert isinstance(shown, dict)
        return shown

    def named(self, node: RealNode) -> dict[str, list[str]]:
        """Return which validators a node says attest what of the first deposit in dispute."""
        shown = self.settlement(node)["deposit_disagreement"]
        sides = [] if shown is None else shown["sides"]
        return {side["hash"]: side["validators"] for side in sides}

    def credited(self, node: RealNode) -> Cursor:
        """Return what a node's exchange has credited."""
        deposits = node.call("omni_getSupply")["deposits"]
        return Cursor(deposits["count"], bytes.fromhex(deposits["hash"][2:]))

    def describe_settlement(self) -> str:
        shown = [f"{node.name}: {self.settlement(node)}" for node in self.running]
        return "\n".join([*shown, self.describe()])

    # --- Waiting ---------------------------------------------------------------------------------

    def wait_for(self, condition: Callable[[], Any], within_s: float = SETTLING_S) -> Any:
        """Return a condition's first true value; fail with the state of everything."""
        return until(condition, within_s, why=self.describe_settlement)

    def wait_state(
        self, state: str, nodes: Sequence[RealNode] | None = None, within_s: float = SYNC_DEADLINE_S
    ) -> None:
        """Wait until these nodes say that they are in a state."""
        for node in nodes or self.running:
            self.wait_for(lambda node=node: self.settlement(node)["state"] == state, within_s)

    def wait_deposits(
        self, nodes: Sequence[RealNode] | None = None, within_s: float = SETTLING_S
    ) -> None:
        """Wait until these nodes have credited all that is in the contract now, and only that."""
        wanted = self.contract.cursor()
        for node in nodes or self.running:
            self.wait_for(lambda node=node: self.credited(node).count >= wanted.count, within_s)
            assert self.credited(node) == wanted

    def wait_checkpoints(self, more: int = 2, within_s: float = SETTLING_S) -> int:
        """Wait for so many checkpoints more in the contract; returns the newest one's number."""
        wanted = len(self.contract.checkpoints()) + more
        self.wait_for(lambda: len(self.contract.checkpoints()) >= wanted, within_s)
        return self.contract.newest_checkpoint()

    # --- Comparing -------------------------------------------------------------------------------

    def assert_settled(self) -> None:
        """Check both sides to the last unit, every checkpoint, and that there is one chain."""
        self.wait_deposits()
        for node in self.running:
            self._assert_backed(node)
        self._assert_checkpoints(self.running[0])
        self.assert_one_chain()

    def _assert_backed(self, node: RealNode) -> None:
        supply = node.call("omni_getSupply")
        made, paid = self.contract.deposits(), self.contract.withdrawals()
        assert [one.index for one in made] == list(range(len(made)))
        assert supply["deposits"]["count"] == len(made), self.describe_settlement()
        for row in supply["assets"]:
            asset, token = row["asset"], self.contract.tokens[row["asset"]]
            exchange, genesis, credited, withdrawn = (
                self.units(asset, row[name])
                for name in ("exchange", "genesis", "credited", "withdrawn")
            )
            deposited = sum(one.amount for one in made if one.token == token)
            paid_out = sum(amount for other, _, amount in paid.values() if other == token)
            assert credited == deposited, (node.name, asset)
            assert exchange == genesis + credited - withdrawn, (node.name, asset)
            assert self.contract.vault(asset) == exchange + withdrawn - paid_out, (node.name, asset)

    def _assert_checkpoints(self, node: RealNode) -> None:
        """Check that each number is there once at most, and is what the network certified."""
        submitted = self.contract.checkpoints()
        for name in ("number", "height"):
            values = [getattr(one, name) for one in submitted]
            assert values == sorted(set(values)), f"{name}s of checkpoints: {values}"
        params = [{"height": one.height} for one in submitted]
        answers = node.call_many("omni_getCheckpoint", params)
        for one, answer in zip(submitted, answers, strict=True):
            certified = answer["result"]
            names = ("number", "height", "state_root", "deposit_count")
            shown = tuple(certified[name] for name in names)
            assert shown == (one.number, one.height, one.state_root, one.deposit_count)


@contextmanager
def settled_network(
    root: Path, *, endpoints: int = 1, without_coins: Sequence[int] = ()
) -> Iterator[SettledNetwork]:
    """Make a chain, contracts on it and four validators that follow it; end all of them at the end.

    Args:
        root: A folder.
        endpoints: How many gates each validator has.
        without_coins: Validators whose account on the chain can pay for nothing.
    """
    ports = free_ports(PORTS_PER_NODE)
    chain = ChainProcess(root / "chain", next(ports), fund=DEPLOYER.address)
    network: SettledNetwork | None = None
    try:
        chain.start()
        network = SettledNetwork(root, chain=chain, ports=ports, endpoints=endpoints)
        network.deploy([v for i, v in enumerate(network.validators) if i not in without_coins])
        network.start()
        network.wait_height(1, network.nodes)
        yield network
    finally:
        if network is not None:
            network.destroy()
        chain.destroy()
