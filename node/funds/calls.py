"""What is called on the settlement chain: the contract of the exchange, and tokens.

Amounts are in base units. The texts are the ABI's own signatures; a test compares them with the
committed artifacts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from eth_abi.abi import encode

from omninode.crypto import keccak256

APPROVE: Final = "approve(address,uint256)"
TRANSFER: Final = "transfer(address,uint256)"
MINT: Final = "mint(address,uint256)"
DEPOSIT: Final = "deposit(address,uint256,address,uint16)"
REGISTER: Final = "register(uint256,bytes)"
ADD_STAKE: Final = "addStake(uint256)"
UNSTAKE: Final = "unstake(uint256)"
EXIT: Final = "exit()"
UNJAIL: Final = "unjail()"

BALANCE_OF: Final = "balanceOf(address)"
ALLOWANCE: Final = "allowance(address,address)"
DEPOSIT_COUNT: Final = "depositCount()"
GENESIS_HASH: Final = "genesisHash()"
IS_WITHDRAWN: Final = "isWithdrawn(uint64)"
IS_REGISTERED: Final = "isRegistered(address)"
STAKE_OF: Final = "stakeOf(address)"
STAKE_CHECKPOINT: Final = "stakeCheckpoint(address)"
STAKE_TOKEN: Final = "stakeToken()"  # noqa: S105 - the name of a function

DEPOSITED: Final = "Deposited(uint64,address,address,uint16,uint256,bytes32)"
STAKE_CHANGED: Final = "StakeChanged(uint64,address,uint8,uint256,bytes,bytes32)"
WITHDRAWN: Final = "Withdrawn(uint64,address,address,uint256)"
CHECKPOINTED: Final = (
    "Checkpointed(uint64,uint64,bytes32,bytes32,uint64,bytes32,uint64,bytes32,uint64,uint64)"
)


@dataclass(frozen=True, slots=True)
class Call:
    """What a transaction does.

    Attributes:
        to: The contract or account called; `None` deploys a contract.
        data: The call's data, or the code and its arguments.
        value: Coins sent along, in wei.
        gas: The most gas it may use; `None` has it estimated.
    """

    to: bytes | None
    data: bytes = b""
    value: int = 0
    gas: int | None = None


@cache
def selector(signature: str) -> bytes:
    """Return the 4 bytes that name a function."""
    return keccak256(signature.encode())[:4]


@cache
def topic(signature: str) -> str:
    """Return the 0x-hex hash that names an event in logs."""
    return "0x" + keccak256(signature.encode()).hex()


def encode_call(signature: str, arguments: Sequence[Any]) -> bytes:
    """Return the data of a function call: its selector, then its arguments."""
    kinds = signature[signature.index("(") + 1 : -1]
    return selector(signature) + encode(kinds.split(",") if kinds else [], arguments)


def approve(token: bytes, spender: bytes, amount: int) -> Call:
    """Let a contract take tokens from the caller."""
    return Call(token, encode_call(APPROVE, (spender, amount)))


def transfer(token: bytes, to: bytes, amount: int) -> Call:
    """Send tokens."""
    return Call(token, encode_call(TRANSFER, (to, amount)))


def mint(token: bytes, to: bytes, amount: int) -> Call:
    """Make test tokens."""
    return Call(token, encode_call(MINT, (to, amount)))


def deposit(contract: bytes, token: bytes, amount: int, *, account: bytes, subaccount: int) -> Call:
    """Hand tokens to the exchange for an account there; the contract needs their approval."""
    return Call(contract, encode_call(DEPOSIT, (token, amount, account, subaccount)))


def stake_call(contract: bytes, signature: str, *arguments: object) -> Call:
    """Ask something about one's own validator: `REGISTER` to `UNJAIL`, with its arguments."""
    return Call(contract, encode_call(signature, arguments))
