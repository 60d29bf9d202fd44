"""From calls to responses: method table, parameters, the call itself, and its outcome as JSON.

This is the RPC boundary: one of the two places of the program where any exception is caught. A
`UserError` or `EndpointError` becomes its own error, anything unexpected `internal_error` with an
id that the log has too, and the node lives on. Only what the error tree calls fatal
(`StorageFault`, `BrokenInvariant`) goes further: to `on_fatal`, which stops the node.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Protocol

import msgspec
import trio

from omninode.errors import BrokenInvariant, EndpointError, StorageFault, UserError
from omninode.node.log import get_logger
from omninode.node.rpc.envelope import (
    NULL_ID,
    Call,
    Item,
    Refusal,
    error_response,
    result_response,
)
from omninode.node.rpc.errors import METHOD_HINTS, AnyError, NoAnswerYet, error_object, error_of
from omninode.node.rpc.limits import RESPONSE_BYTES_MAX
from omninode.node.rpc.registry import Method

_log = get_logger("rpc")
_encode = msgspec.json.encode

Answer = bytes | None
"""A response; `None` answers a notification."""


class CallObserver(Protocol):
    """Counts calls; `node/metrics.py` has one."""

    def called(self, method: str, *, reason: str, seconds: float) -> None:
        """Note one call: `reason` is `ok` or that of its error, `method` is known or `unknown`."""

    def slow_client_closed(self) -> None:
        """Note a WebSocket that was closed because its client does not read."""


class Dispatcher:
    """Answers calls with a table of methods.

    Args:
        methods: By name.
        halted: Why the state may not be served (P5), or `None`.
        observer: Told about every call.
        on_fatal: Told about an error that must stop the node.
    """

    def __init__(
        self,
        methods: Mapping[str, Method[Any]],
        *,
        halted: Callable[[], str | None],
        observer: CallObserver,
        on_fatal: Callable[[Exception], None],
    ) -> None:
        self.methods: Final = methods
        self._halted = halted
        self.observer: Final = observer
        self._on_fatal = on_fatal

    def begin(self, item: Item, context: object) -> Answer | Coroutine[Any, Any, Answer]:
        """Answer a call at once if its method does not wait, else return what will.

        Args:
            item: A call, or a refusal that only needs its words.
            context: Handed to the method.
        """
        if isinstance(item, Refusal):
            self.observer.called("unknown", reason=item.error.reason, seconds=0.0)
            return error_response(item.id, item.error)
        started = trio.current_time()
        method = self.methods.get(item.method)
        if method is None:
            error = error_object(
                "method_not_found",
                f"the method {item.method[:64]} does not exist",
                hint=METHOD_HINTS.get(item.method, ""),
            )
            return self._finish(item, "unknown", started, error=error)
        try:
            params = method.read_params(item.params)
            if method.reads_state and (why := self._halted()) is not None:
                raise UserError("halted", why)
            if not method.is_async:
                result = _encode(method.function(context, params))
                return self._finish(item, method.name, started, result=result)
        except Exception as error:  # noqa: BLE001 - the RPC boundary
            return self._finish(item, method.name, started, error=self._error(error, method.name))
        return self._wait(item, method, params, context)

    async def answer(self, item: Item, context: object) -> Answer:
        """Answer a call, waiting if its method waits."""
        answer = self.begin(item, context)
        if isinstance(answer, Coroutine):
            return await answer
        return answer

    async def _wait(
        self, call: Call, method: Method[Any], params: object, context: object
    ) -> Answer:
        started = trio.current_time()
        try:
            with trio.move_on_after(method.timeout_s):
                work: Any = method.function(context, params)
                result = _encode(await work)
                return self._finish(call, method.name, started, result=result)
            raise NoAnswerYet(f"{method.name} took longer than {method.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - the RPC boundary
            return self._finish(call, method.name, started, error=self._error(error, method.name))

    def _finish(
        self,
        call: Call,
        method: str,
        started: float,
        *,
        result: bytes = b"",
        error: AnyError | None = None,
    ) -> Answer:
        if error is None and len(result) > RESPONSE_BYTES_MAX:
            error = error_object(
                "response_too_large",
                f"the result has {len(result)} bytes, at most {RESPONSE_BYTES_MAX} are sent",
            )
        reason = "ok" if error is None else error.reason
        self.observer.called(method, reason=reason, seconds=trio.current_time() - started)
        if call.id is None:
            return None
        if error is None:
            return result_response(call.id, result)
        return error_response(call.id or NULL_ID, error)

    def _error(self, error: Exception, method: str) -> AnyError:
        if isinstance(error, UserError | EndpointError):
            return error_of(error)
        error_id = secrets.token_hex(8)
        _log.error("call_failed", method=method, error_id=error_id, exc_info=error)
        if isinstance(error, BrokenInvariant | StorageFault):
            self._on_fatal(error)
        return error_object(
            "internal_error",
            "an error of the node, not of the request",
            hint=f"its log has more under error_id {error_id}",
            error_id=error_id,
        )
