"""One flipped bit in one node's state: that node halts and says at which height, the others go on
(P5)."""

from __future__ import annotations

from typing import Any

from omninode.consensus import effects as out
from omninode.node.simulation.exchange_machine import GENESIS, TRADERS, ExchangeMachine
from omninode.node.simulation.node import Node
from omninode.node.simulation.schedule import Profile, draw
from omninode.node.simulation.simulator import Simulator

VICTIM = 2
FLIP_AT_HEIGHT = 4
USDC = GENESIS.asset_index["USDC"]


class BitFlip(Simulator):
    """Flips a bit of one node's stored balances in mid-run."""

    def __init__(self) -> None:
        schedule = draw(1, Profile.EVERY_APPEND)
        schedule.crash_at_append = None
        schedule.transactions = [(200 * i, i % 4) for i in range(120)]
        super().__init__(schedule)
        self.halts: list[out.Halt] = []
        self.flipped_at: int | None = None

    def _dispatch(self, node: Node | None, kind: str, payload: Any) -> None:
        super()._dispatch(node, kind, payload)
        victim = self.nodes[VICTIM]
        if self.flipped_at is None and victim.is_up and victim.machine.height >= FLIP_AT_HEIGHT:
            machine = victim.machine
            assert isinstance(machine, ExchangeMachine)
            owner = machine.exchange.state.accounts.owners[TRADERS[0].address]
            owner.subaccounts[0].balances[USDC].free ^= 1
            self.flipped_at = machine.height
            victim.is_honest = False
            self.honest.remove(victim)

    def halted(self, node: Node, halt: out.Halt) -> None:
        assert node.index == VICTIM
        self.halts.append(halt)


def test_a_flipped_bit_halts_its_node_only() -> None:
    world = BitFlip()
    report = world.run()
    assert world.flipped_at is not None
    (halt,) = world.halts
    assert halt.height > world.flipped_at
    assert halt.expected == world.agreement.app_hashes[halt.height]
    assert halt.ours != halt.expected
    assert world.nodes[VICTIM].core.halted == halt
    assert report.height > halt.height + 3
