"""`eth_call` and `eth_estimateGas`: computations that change nothing.

Rules
    K1. A call pays for gas only if it names a price, as with geth; the base fee that it sees is 0
        otherwise.
    K2. Gas is bounded by `CALL_GAS_MAX`, time by `CALL_TIME_S`: together for all trials of an
        estimate.
    K3. A revert is error 3 with the revert's bytes as data.

For a thread of its own; everything here is opened anew for each call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import eth_abi
from eth.abc import ComputationAPI
from eth.exceptions import OutOfGas, Revert, VMError
from eth.vm.forks.prague.transactions import PragueTransactionBuilder
from eth.vm.spoof import SpoofTransaction
from eth_abi.exceptions import DecodingError
from eth_utils import ValidationError

from omninode.contracts.devchain.blocks import Block
from omninode.contracts.devchain.chain import Chain
from omninode.contracts.devchain.evm import OutOfTime
from omninode.contracts.devchain.limits import (
    ACCESS_LIST_MAX,
    CALL_GAS_MAX,
    CALL_TIME_S,
    INIT_CODE_BYTES_MAX,
)
from omninode.contracts.devchain.quantities import data, quantity, read_data, read_quantity
from omninode.contracts.devchain.refusals import (
    REVERTED,
    CallRefused,
    invalid,
    over_limit,
    refuse,
)
from omninode.contracts.devchain.transactions import floor_gas

AccessList = tuple[tuple[bytes, tuple[int, ...]], ...]

_TRANSFER_GAS: Final = 21_000
_CLOSE_ENOUGH: Final = 0.015
"""An estimate is at most this part too high, as with geth."""

_ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")
_PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")
_PANICS: Final = {
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}


@dataclass(frozen=True, slots=True)
class CallRequest:
    """What a call asks for; `gas` is `None` for as much as there may be, `price` 0 for free."""

    sender: bytes
    to: bytes
    gas: int | None
    price: int
    value: int
    data: bytes
    access_list: AccessList


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a computation did; `gas_spent` is before refunds."""

    output: bytes
    error: VMError | None
    gas_spent: int


def read_call(given: object) -> CallRequest:
    """Read the first argument of a call.

    Raises:
        CallRefused: It is malformed.
    """
    if not isinstance(given, dict):
        raise invalid(0, "an object is wanted")
    texts = [given[name] for name in ("input", "data") if given.get(name) is not None]
    if len({str(text).lower() for text in texts}) > 1:
        raise invalid(0, "both data and input are given, and they differ")
    prices = (given.get("maxFeePerGas"), given.get("gasPrice"))
    price = next((price for price in prices if price is not None), 0)
    gas, to, sender = given.get("gas"), given.get("to"), given.get("from")
    code = read_data(texts[0], 0) if texts else b""
    if to is None and len(code) > INIT_CODE_BYTES_MAX:
        raise refuse(f"max initcode size exceeded: code size {len(code)}")
    return CallRequest(
        sender=bytes(20) if sender is None else read_data(sender, 0, size=20),
        to=b"" if to is None else read_data(to, 0, size=20),
        gas=None if gas is None else read_quantity(gas, 0, below=2**64),
        price=read_quantity(price, 0),
        value=read_quantity(given.get("value") or 0, 0),
        data=code,
        access_list=_read_access_list(given.get("accessList")),
    )


def _read_access_list(given: object) -> AccessList:
    if given is None:
        return ()
    if not isinstance(given, list) or len(given) > ACCESS_LIST_MAX:
        raise invalid(0, f"accessList: an array of at most {ACCESS_LIST_MAX} is wanted")
    entries = []
    for entry in given:
        keys = entry.get("storageKeys", []) if isinstance(entry, dict) else None
        if not isinstance(keys, list) or len(keys) > ACCESS_LIST_MAX:
            raise invalid(0, "accessList: an entry has an address and storage keys")
        slots = tuple(int.from_bytes(read_data(key, 0, size=32)) for key in keys)
        entries.append((read_data(entry.get("address"), 0, size=20), slots))
    return tuple(entries)


def call(chain: Chain, block: Block, request: CallRequest) -> bytes:
    """Return what a call returns on the state after a block.

    Raises:
        CallRefused: It reverts, fails, or goes beyond a bound.
    """
    outcome = _Trials(chain, block, request).run(min(request.gas or CALL_GAS_MAX, CALL_GAS_MAX))
    if outcome.error is not None:
        raise failure(outcome)
    return outcome.output


def estimate(chain: Chain, block: Block, request: CallRequest) -> int:
    """Return how much gas a transaction needs on the state after a block.

    Found by search, since a call that is left less gas may do something else.

    Raises:
        CallRefused: It reverts or fails with any gas, or goes beyond a bound.
    """
    trials = _Trials(chain, block, request)
    enough = _gas_ceiling(chain, block, request)
    first = trials.run(enough)
    if first.error is not None:
        if isinstance(first.error, OutOfGas):
            raise refuse(f"gas required exceeds allowance ({enough})")
        raise failure(first)
    too_little = max(first.gas_spent, floor_gas(request.data))
    # Enough already, unless a contract looks at its gas or keeps a 64th of it from another.
    if too_little >= enough or trials.run(too_little).error is None:
        return too_little
    while too_little + 1 < enough and enough - too_little > enough * _CLOSE_ENOUGH:
        # Most transactions need little more than they use, so the first steps are short.
        middle = min((too_little + enough) // 2, too_little * 2)
        if trials.run(middle).error is None:
            enough = middle
        else:
            too_little = middle
    return enough


def _gas_ceiling(chain: Chain, block: Block, request: CallRequest) -> int:
    """Return the most gas that the transaction could have."""
    wanted = request.gas or 0
    ceiling = min(block.header.gas_limit, CALL_GAS_MAX)
    if wanted >= _TRANSFER_GAS:
        ceiling = min(ceiling, wanted)
    if request.price == 0:
        return ceiling
    balance = int(chain.open_state(block).get_balance(request.sender))  # type: ignore[arg-type]
    if balance < request.value:
        raise refuse("insufficient funds for transfer")
    return min(ceiling, (balance - request.value) // request.price)


class _Trials:
    """Runs of one request on one state, with one deadline (K2)."""

    def __init__(self, chain: Chain, block: Block, request: CallRequest) -> None:
        self._chain = chain
        self._block = block
        self._request = request
        self._deadline = time.monotonic() + CALL_TIME_S

    def run(self, gas: int) -> Outcome:
        """Run with so much gas.

        Raises:
            CallRefused: It could be no transaction, or takes too long.
        """
        request = self._request
        base_fee = None if request.price else 0
        state = self._chain.open_state(self._block, deadline=self._deadline, base_fee=base_fee)
        unsigned = PragueTransactionBuilder.new_unsigned_dynamic_fee_transaction(
            chain_id=self._chain.chain_id,
            nonce=state.get_nonce(request.sender),  # type: ignore[arg-type]
            max_priority_fee_per_gas=0,
            max_fee_per_gas=request.price,
            gas=gas,
            to=request.to,  # type: ignore[arg-type]
            value=request.value,
            data=request.data,
            access_list=request.access_list,  # type: ignore[arg-type]
        )
        needed = max(unsigned.intrinsic_gas, floor_gas(request.data))
        if gas < needed:
            raise refuse(f"intrinsic gas too low: have {gas}, want {needed}")
        try:
            computation = state.apply_transaction(
                SpoofTransaction(unsigned, from_=request.sender)  # type: ignore[arg-type]
            )
        except ValidationError as error:
            raise _not_payable(error) from None
        except OutOfTime:
            raise over_limit(f"execution aborted (timeout = {CALL_TIME_S:g}s)") from None
        return _outcome(gas, computation)


def _outcome(gas: int, computation: ComputationAPI) -> Outcome:
    return Outcome(
        output=bytes(computation.output),
        error=computation.error if computation.is_error else None,
        gas_spent=gas - computation.get_gas_remaining(),
    )


def _not_payable(error: ValidationError) -> CallRefused:
    """Say in geth's words why the sender can not pay."""
    text = str(error)
    if "base fee" in text:
        return refuse(f"max fee per gas less than block base fee: {text}")
    if "balance" in text or "afford" in text or "funds" in text:
        return refuse(f"insufficient funds for gas * price + value: {text}")
    return refuse(text)


def failure(outcome: Outcome) -> CallRefused:
    """Return the refusal of a call that reverted or failed (K3)."""
    error = outcome.error
    if isinstance(error, Revert):
        reason = _reason(outcome.output)
        message = f"execution reverted: {reason}" if reason else "execution reverted"
        return CallRefused(REVERTED, message, data(outcome.output))
    if isinstance(error, OutOfGas):
        return refuse("out of gas")
    return refuse(str(error)[:200] or type(error).__name__)


def _reason(output: bytes) -> str:
    """Return the words of `Error(string)` or `Panic(uint256)`; empty for all else."""
    try:
        if output[:4] == _ERROR_SELECTOR:
            text: str = eth_abi.decode(["string"], output[4:])[0]
            return text
        if output[:4] == _PANIC_SELECTOR:
            code: int = eth_abi.decode(["uint256"], output[4:])[0]
            return _PANICS.get(code, f"unknown panic code: {quantity(code)}")
    except (DecodingError, UnicodeDecodeError, OverflowError):
        pass
    return ""
