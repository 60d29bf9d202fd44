"""One measurement in a process of its own: `python -m omninode.node.bench.worker NAME ARGUMENTS`.

A fresh process has no other measurement's heap, and finds the compiled engine where the parent has
put it in front on the path. Prints one JSON document. Time is processor time: one thread on a core
of its own, whatever else the machine does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from omninode.dex import book
from omninode.node.bench.admission import admission
from omninode.node.bench.collector import collector_off
from omninode.node.bench.flows import ADD, CANCEL, SHAPES, Matcher, Step, load_flow
from omninode.node.bench.path import path

Document = dict[str, Any]
BLOCK: Final = 1_000
"""Operations of a block."""


def matching(flow: str) -> Document:
    """Time our books and matching on the flow in a file."""
    drawn = load_flow(Path(flow))
    steps, count = drawn.steps, len(drawn.steps)
    blocks = [steps[start : start + BLOCK] for start in range(0, count, BLOCK)]
    engine = Matcher(SHAPES[drawn.name].markets)
    with collector_off():
        began = time.process_time()
        for block in blocks:
            engine.run(block)
            engine.end_block()
        seconds = time.process_time() - began
    assert engine.fills == drawn.fills
    return {
        "operations_per_second": count / seconds,
        "fills": engine.fills,
        "resting": drawn.resting,
    }


def liquibook(flow: str, *, tells_fills: bool) -> Document:
    """Time liquibook on the same flow.

    Args:
        flow: A file.
        tells_fills: Whether it reports fills to Python, as ours does. Without a listener it is at
            its fastest and nobody learns who traded.
    """
    import liquibook as peer  # noqa: PLC0415 - installed for benchmarks only

    drawn = load_flow(Path(flow))
    names = [str(number) for number in range(SHAPES[drawn.name].markets)]
    books = [peer.liquibook_book_OrderBook(name) for name in names]
    listener = _fill_counter(peer) if tells_fills else None
    for book_of_peer in books if listener is not None else ():
        book_of_peer.set_order_listener(listener)
    with collector_off():
        seconds = _feed(drawn.steps, books, peer)
    fills = None if listener is None else listener.count
    return {"operations_per_second": len(drawn.steps) / seconds, "fills": fills}


def _feed(steps: Sequence[Step], books: Sequence[Any], peer: Any) -> float:  # noqa: ANN401
    """Hand a flow to liquibook and return the processor time it took."""
    orders: dict[bytes, Any] = {}
    simple_order, at_once = peer.SimpleOrder, peer.oc_immediate_or_cancel
    began = time.process_time()
    for kind, market, identifier, is_buy, price, size in steps:
        if kind == CANCEL:
            books[market].cancel(orders.pop(identifier))
            continue
        order = simple_order(is_buy, price, size)
        if kind == ADD:
            orders[identifier] = order
            books[market].add(order)
        else:
            books[market].add(order, at_once)
    return time.process_time() - began


def _fill_counter(peer: Any) -> Any:  # noqa: ANN401 - a module without types
    """Return a listener that counts fills; all its methods must be there, empty or not."""

    class Fills(peer.OrderListener):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.count = 0

        def on_fill(self, *_: object) -> None:
            self.count += 1

        def on_accept(self, *_: object) -> None:
            pass

        on_cancel = on_cancel_reject = on_reject = on_replace = on_replace_reject = on_accept
        on_trigger_stop = on_accept

    return Fills()


_MEASURES: Final[dict[str, Callable[..., Document]]] = {
    "matching": matching,
    "liquibook": liquibook,
    "path": path,
    "admission": admission,
}


def main() -> None:
    """Measure what the command line names."""
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    document = _MEASURES[name](**arguments)
    engine = "compiled" if str(book.__file__).endswith(".so") else "pure"
    print(json.dumps({"engine": engine, **document}))


if __name__ == "__main__":
    main()
