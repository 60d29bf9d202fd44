"""py-evm under Prague's rules, with an end to the time that a computation may take.

Rules
    V1. A computation ends when its time is up, wherever it is: the clock is looked at before every
        instruction. What takes long inside one instruction, the precompiled contracts that are
        Python here, is started only if its estimated time is left.
    V2. Running out of time is no outcome of the EVM: the whole call or transaction is given up and
        its state thrown away.
    V3. A block's context has difficulty 0 (`mix_hash` is the random value), and no blobs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from eth.abc import BlockHeaderAPI, ComputationAPI
from eth.db.atomic import AtomicDB
from eth.vm.execution_context import ExecutionContext
from eth.vm.forks.prague.computation import PRAGUE_PRECOMPILES, PragueComputation
from eth.vm.forks.prague.state import PragueState
from typing_extensions import override

from omninode.contracts.devchain.store import StateNodes

Precompile = Callable[[ComputationAPI], Any]

_BLAKE2_ROUND_S: Final = 9e-6
_SLOWNESS: Final[Mapping[int, tuple[int, float]]] = {
    0x06: (128, 0.001),
    0x07: (96, 0.01),
    0x08: (192, 0.3),
    0x0B: (256, 0.001),
    0x0C: (160, 0.03),
    0x0D: (512, 0.002),
    0x0E: (288, 0.1),
    0x0F: (384, 0.5),
    0x10: (64, 0.005),
    0x11: (128, 0.12),
}
"""Of precompiled contracts by address: bytes of one piece of input, and the seconds it takes."""


class OutOfTime(Exception):
    """A computation took too long (V2)."""


def _estimate_s(number: int, data: bytes) -> float:
    """Return about how long a precompiled contract takes."""
    if number == 0x09:
        return int.from_bytes(data[:4]) * _BLAKE2_ROUND_S
    piece, seconds = _SLOWNESS[number]
    return (1 + len(data) // piece) * seconds


def _timed(number: int, precompile: Precompile) -> Precompile:
    def run(computation: ComputationAPI) -> Any:  # noqa: ANN401 - py-evm ignores it
        needed = _estimate_s(number, computation.msg.data_as_bytes)
        if time.monotonic() + needed > computation.state.deadline:  # type: ignore[attr-defined]
            raise OutOfTime
        return precompile(computation)

    return run


def _timed_precompiles() -> dict[Any, Precompile]:
    table = dict(PRAGUE_PRECOMPILES)
    for address, precompile in table.items():
        number = int.from_bytes(address)
        if number == 0x09 or number in _SLOWNESS:
            table[address] = _timed(number, precompile)
    return table


class _Computation(PragueComputation):
    """Prague's, with an eye on the clock (V1)."""

    _precompiles = _timed_precompiles()

    @override
    def consume_gas(self, amount: int, reason: str) -> None:
        if time.monotonic() > self.state.deadline:  # type: ignore[attr-defined]
            raise OutOfTime
        self._gas_meter.consume_gas(amount, reason)


class State(PragueState):
    """Prague's, with the time at which computations end.

    Attributes:
        deadline: On the clock `time.monotonic`.
    """

    computation_class = _Computation
    deadline: float = math.inf


def open_state(
    nodes: StateNodes,
    header: BlockHeaderAPI,
    ancestors: Iterable[bytes],
    *,
    chain_id: int,
    deadline: float = math.inf,
    base_fee: int | None = None,
) -> State:
    """Open the state that a header names, with the header as the block that computations see (V3).

    Args:
        nodes: Where state trees are kept.
        header: Its `state_root` is the state; its other fields are what contracts see.
        ancestors: Hashes of the blocks before it, the newest first; read as far as needed.
        chain_id: The chain's number.
        deadline: When computations end, on the clock `time.monotonic`.
        base_fee: The base fee that contracts see and transactions pay, if not the header's.
    """
    context = ExecutionContext(
        coinbase=header.coinbase,
        timestamp=header.timestamp,
        block_number=header.block_number,
        difficulty=0,
        mix_hash=header.mix_hash,
        gas_limit=header.gas_limit,
        prev_hashes=ancestors,  # type: ignore[arg-type]
        chain_id=chain_id,
        base_fee_per_gas=header.base_fee_per_gas if base_fee is None else base_fee,
        excess_blob_gas=0,
    )
    state = State(AtomicDB(nodes), context, header.state_root)
    state.deadline = deadline
    return state


def gas_used(gas: int, computation: ComputationAPI) -> int:
    """Return what an executed transaction pays for, of the gas it was given."""
    spent = gas - computation.get_gas_remaining()
    refund = min(computation.get_gas_refund(), spent // 5)
    return spent - refund + int(computation.data_floor_gas)
