"""What a method is handed besides its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from omninode.node.rpc.session import Session

N = TypeVar("N")


@dataclass(frozen=True, slots=True)
class Context(Generic[N]):
    """One request's surroundings.

    `node` is what the methods read and write, `session` the WebSocket the request came on, if it
    did, and `in_batch` tells that its response leaves together with others.
    """

    node: N
    session: Session | None = None
    in_batch: bool = False
