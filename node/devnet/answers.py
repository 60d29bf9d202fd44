"""Whether a settlement chain's answers have the form that its methods promise.

Somebody else's chain may answer anything. What has not the form of an answer is a `ChainError`
here, before anybody computes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from omninode.contracts.wire import read_bytes, read_header, read_quantity
from omninode.crypto import ADDRESS_BYTES, HASH_BYTES
from omninode.errors import ChainError, Malformed
from omninode.node.funds.chain import Ask

_WORD: Final = 2**256
_TEXT_MAX: Final = 300


def checked(ask: Ask) -> Ask:
    """Return an `Ask` that answers what is well formed, and raises `ChainError` for the rest."""

    async def ask_and_check(method: str, params: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        answer = await ask(method, params)
        check_answer(method, answer)
        return answer

    return ask_and_check


def check_answer(method: str, answer: object) -> None:
    """Check an answer; methods that nobody here computes with pass as they are.

    Raises:
        ChainError: It has not the form of an answer to this method.
    """
    check = _CHECKS.get(method)
    if check is None:
        return
    try:
        check(answer)
    except Malformed as error:
        what = f"the settlement chain does not answer {method} as an EVM chain does: {error}"
        raise ChainError(what[:_TEXT_MAX], retryable=False) from None


def _check_number(answer: object) -> None:
    read_quantity(answer, below=_WORD)


def _check_hash(answer: object) -> None:
    read_bytes(answer, size=HASH_BYTES)


def _check_bytes(answer: object) -> None:
    read_bytes(answer)


def _check_block(answer: object) -> None:
    if answer is not None:
        read_header(answer)


def _check_transaction(answer: object) -> None:
    if answer is not None:
        _mapping(answer)


def _check_receipt(answer: object) -> None:
    if answer is None:
        return
    receipt = _mapping(answer)
    read_quantity(receipt.get("status"))
    read_quantity(receipt.get("blockNumber"))
    _check_hash(receipt.get("transactionHash"))
    _check_logs(receipt.get("logs"))


def _check_logs(answer: object) -> None:
    if not isinstance(answer, list):
        raise Malformed(f"not a list: {str(answer)[:80]!r}")
    for item in answer:
        log = _mapping(item)
        topics = log.get("topics")
        if not isinstance(topics, list):
            raise Malformed("a log without topics")
        read_bytes(log.get("address"), size=ADDRESS_BYTES)
        read_bytes(log.get("data"))
        for topic in topics:
            _check_hash(topic)


def _mapping(answer: object) -> Mapping[str, Any]:
    if not isinstance(answer, dict):
        raise Malformed(f"not an object: {str(answer)[:80]!r}")
    return answer


_CHECKS: Final[Mapping[str, Callable[[object], None]]] = {
    "eth_blockNumber": _check_number,
    "eth_call": _check_bytes,
    "eth_chainId": _check_number,
    "eth_estimateGas": _check_number,
    "eth_getBalance": _check_number,
    "eth_getBlockByNumber": _check_block,
    "eth_getCode": _check_bytes,
    "eth_getLogs": _check_logs,
    "eth_getTransactionByHash": _check_transaction,
    "eth_getTransactionCount": _check_number,
    "eth_getTransactionReceipt": _check_receipt,
    "eth_maxPriorityFeePerGas": _check_number,
    "eth_sendRawTransaction": _check_hash,
}
