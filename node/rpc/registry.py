"""Methods: one decorator binds a name to a function, the struct of its parameters and its result.

    @method("omni_getBlock", result=results.Block, errors=("unknown_block",))
    def get_block(context: Context, params: GetBlock) -> Document:
        "Return one block with its transactions."

The struct says everything about the parameters: names, types, ranges, defaults and their
documentation. Parameters come by name or by position; unknown ones, missing ones and values out of
range are refused (`invalid_params`). `rpc.discover` and docs/reference/rpc.md are generated from
the same struct, so they can not differ from what is served.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, get_type_hints

import msgspec

from omninode.node.rpc.errors import InvalidParams
from omninode.node.rpc.limits import CALL_TIMEOUT_S


class Params(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=False):
    """Base of all parameter structs; also the parameters of a method without any."""


P = TypeVar("P", bound=Params)
Result = object | Coroutine[Any, Any, object]


@dataclass(frozen=True, slots=True)
class Method(Generic[P]):
    """One method of the interface.

    `reads_state` methods are refused while the node is halted (PROTOCOL.md P5); `streams` methods
    need a WebSocket; those with `forwards` go to the settlement chain (`methods.ethereum`) with
    whatever parameters they have.
    """

    name: str
    function: Callable[[Any, P], Result]
    params: type[P]
    result: object
    errors: tuple[str, ...]
    cost: int
    timeout_s: float
    is_async: bool
    reads_state: bool
    streams: bool
    forwards: bool
    by_name: msgspec.json.Decoder[P]
    by_position: msgspec.json.Decoder[P]

    @property
    def summary(self) -> str:
        """The first sentence of its documentation."""
        return self.description.partition("\n")[0]

    @property
    def description(self) -> str:
        """Its documentation."""
        return inspect.getdoc(self.function) or ""

    def read_params(self, text: bytes) -> P:
        """Decode and check parameters.

        Args:
            text: A JSON object (by name) or array (by position).

        Raises:
            InvalidParams: Unknown, missing, of the wrong type or out of range.
        """
        decoder = self.by_position if text[:1] == b"[" else self.by_name
        try:
            return decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidParams(f"{self.name}: {error}") from None


def method(
    name: str,
    *,
    result: object,
    errors: tuple[str, ...] = (),
    cost: int = 1,
    timeout_s: float = CALL_TIMEOUT_S,
    reads_state: bool = True,
    streams: bool = False,
) -> Callable[[Callable[[Any, P], Result]], Method[P]]:
    """Make a function of `(context, params)` a method of the interface.

    Args:
        name: Its name on the wire.
        result: The type of its result, for descriptions.
        errors: The reasons it may refuse with, beside those that every method has.
        cost: What a call costs a client, in tokens (`rate`); more for heavy reads.
        timeout_s: Its deadline; only methods that await are bound by it.
        reads_state: Whether it serves the exchange's state or history.
        streams: Whether it works on WebSocket connections only.
    """

    def bind(function: Callable[[Any, P], Result]) -> Method[P]:
        hints = get_type_hints(function, include_extras=True)
        params: type[P] = hints["params"]
        return Method(
            name=name,
            function=function,
            params=params,
            result=result,
            errors=errors,
            cost=cost,
            timeout_s=timeout_s,
            is_async=inspect.iscoroutinefunction(function),
            reads_state=reads_state,
            streams=streams,
            forwards=False,
            by_name=msgspec.json.Decoder(params),
            by_position=msgspec.json.Decoder(_positional(params)),
        )

    return bind


def _positional(params: type[P]) -> type[P]:
    """Return a twin of a parameter struct that decodes from an array, by field order."""
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    hints = get_type_hints(params, include_extras=True)
    for field in msgspec.structs.fields(params):
        if field.default is msgspec.NODEFAULT:
            fields.append((field.name, hints[field.name]))
        else:
            fields.append((field.name, hints[field.name], field.default))
    twin: Any = msgspec.defstruct(
        params.__name__, fields, frozen=True, array_like=True, forbid_unknown_fields=True
    )
    return twin  # type: ignore[no-any-return]
