"""Reading the settlement chain through whoever passes JSON-RPC on: a node, or an endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NoReturn, Protocol

from omninode.contracts.artifacts import load_artifact
from omninode.crypto import checksum_address, keccak256
from omninode.errors import ChainError, EndpointError, UserError
from omninode.node.funds.calls import encode_call
from omninode.node.funds.limits import ERROR_TEXT_MAX

ARTIFACTS: Final = ("Settlement", "XOM", "TestToken")

REFUSAL_HINTS: Final[Mapping[str, str]] = {
    "not_checkpointed": "try again in a moment: the contract has got a newer checkpoint",
    "wrong_proof": "ask another node for its proof, with --rpc",
    "already_registered": "stake more with `omninode stake deposit`, or leave first: `stake exit`",
    "wrong_identity": "register with the keys that `omninode init` made",
    "stale_proof": "nothing is left to do: the contract knows as much or more",
    "erc20_insufficient_balance": "send tokens to the account first",
    "erc20_insufficient_allowance": "approve that the contract takes the tokens, then try again",
}
"""What to do about the contracts' own errors."""

_ENDPOINT_HINTS: Final = (
    ("insufficient funds", "send the account coins to pay for gas"),
    ("nonce", "another transaction of the account is under way: try again after it"),
    ("underpriced", "another transaction of the account is under way: try again after it"),
)
"""What to do about an endpoint's errors, by words that are in all clients' messages."""

_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Ask(Protocol):
    """Calls a JSON-RPC method of the settlement chain."""

    async def __call__(self, method: str, params: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        """Return the result.

        Raises:
            EndpointError: The chain answered with an error.
            UserError: Nobody answered.
        """
        ...


@dataclass(frozen=True, slots=True)
class BlockId:
    """One block of the settlement chain."""

    number: int
    hash: str


class SettlementChain:
    """The settlement chain as somebody passes it on.

    Args:
        ask: Who is asked.
    """

    def __init__(self, ask: Ask) -> None:
        self.ask: Final = ask

    async def chain_id(self) -> int:
        """Return the chain's id.

        Raises:
            ChainError: What answers is no endpoint of a chain.
        """
        return _number(await self.ask("eth_chainId", []))

    async def newest(self) -> BlockId:
        """Return the newest block."""
        return _block_id(await self.ask("eth_getBlockByNumber", ["latest", False]))

    async def block(self, number: int) -> BlockId:
        """Return the block of a height.

        Raises:
            ChainError: There is none.
        """
        return _block_id(await self.ask("eth_getBlockByNumber", [hex(number), False]))

    async def read(
        self, contract: bytes, signature: str, *arguments: object, block: int | None = None
    ) -> int:
        """Call a view that returns one word, as of a block (the newest if none is named).

        Raises:
            ChainError: There is no such contract, or no such view.
        """
        call = {
            "to": "0x" + contract.hex(),
            "data": "0x" + encode_call(signature, arguments).hex(),
        }
        result = await self.ask("eth_call", [call, "latest" if block is None else hex(block)])
        if not isinstance(result, str) or len(result) != 66:
            raise ChainError(f"no contract with {signature} at 0x{contract.hex()}", retryable=False)
        return _number(result)

    async def coins(self, address: bytes) -> int:
        """Return an account's coins, in wei."""
        return _number(await self.ask("eth_getBalance", [checksum_address(address), "latest"]))

    async def has_code(self, address: bytes) -> bool:
        """Whether there is a contract at an address."""
        return bool(await self.ask("eth_getCode", ["0x" + address.hex(), "latest"]) != "0x")

    async def logs(
        self, contract: bytes, topics: Sequence[str], *, first: int, last: int
    ) -> list[dict[str, Any]]:
        """Return a contract's events of some kinds in a range of blocks."""
        wanted = {
            "address": "0x" + contract.hex(),
            "topics": [list(topics)],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        found: list[dict[str, Any]] = await self.ask("eth_getLogs", [wanted])
        return found


def _block_id(block: object) -> BlockId:
    if block is None:
        raise ChainError("the settlement chain does not have the block", retryable=True)
    if not isinstance(block, dict) or "hash" not in block:
        raise _no_endpoint(block)
    return BlockId(_number(block.get("number")), str(block["hash"]))


def _number(text: object) -> int:
    if not isinstance(text, str) or re.fullmatch("0x[0-9a-fA-F]{1,64}", text) is None:
        raise _no_endpoint(text)
    return int(text, 16)


def _no_endpoint(answer: object) -> ChainError:
    return ChainError(f"no settlement chain answers like that: {answer!r:.80}", retryable=False)


def refuse(error: EndpointError, what: str) -> NoReturn:
    """Turn a chain's refusal of a transaction into words, with the contract's own name for it.

    Raises:
        UserError: Always; `reason` is the contract's error in snake_case, or `chain_refused`.
    """
    name = revert_name(error.data)
    if name is None:
        message = str(error)[:ERROR_TEXT_MAX]
        fits = (hint for words, hint in _ENDPOINT_HINTS if words in message.lower())
        hint = next(fits, "nothing was moved; check the account's coins, then try again")
        raise UserError(
            "chain_refused", f"the chain refuses {what}: {message}", hint=hint
        ) from None
    reason = _WORD_STARTS.sub("_", name).lower()
    hint = REFUSAL_HINTS.get(reason, "nothing was moved; check what you asked for")
    raise UserError(reason, f"the contract refuses {what}: {name}", hint=hint) from None


def revert_name(data: object) -> str | None:
    """Return the name of the custom error in a revert's data, if it is one of ours."""
    if isinstance(data, dict):  # as some endpoints wrap it
        data = data.get("data")
    if not isinstance(data, str) or not re.fullmatch("0x[0-9a-fA-F]{8,}", data):
        return None
    return _error_names().get(bytes.fromhex(data[2:10]))


@cache
def _error_names() -> dict[bytes, str]:
    return {
        keccak256(_signature(entry).encode())[:4]: entry["name"]
        for name in ARTIFACTS
        for entry in _entries(name, "error")
    }


def _entries(artifact: str, kind: str) -> Iterator[dict[str, Any]]:
    yield from (entry for entry in load_artifact(artifact).abi if entry["type"] == kind)


def _signature(entry: dict[str, Any]) -> str:
    return f"{entry['name']}({','.join(field['type'] for field in entry['inputs'])})"
