"""A small JSON-RPC client for the command line: one connection, one call at a time.

It blocks; a node calls itself by it in worker threads only. Every failure is a `UserError` with a
stable reason: `node_unreachable`, `bad_response`, or what the node answered in `data.reason`. Nodes
pass `eth_*`, `net_*` and `web3_*` on to the settlement chain; an error of that chain is an
`EndpointError`.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self
from urllib.parse import urlsplit

from omninode.errors import ConfigError, EndpointError, UserError

TIMEOUT_S: Final = 20
"""Longer than a node itself waits for the settlement chain, so that it can say who is silent."""

RESPONSE_BYTES_MAX: Final = 64 * 1024 * 1024
"""A longer answer is refused: no method returns so much."""

CHAIN_PREFIXES: Final = ("eth_", "net_", "web3_")
"""Methods of the settlement chain."""

_UNREACHABLE_HINT: Final = "start the node with `omninode start`, or name another with --rpc"

_ANYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - read, not bound
"""A node that listens on all addresses is asked on loopback."""


class RpcClient:
    """Calls one node.

    Args:
        url: `http://host:port` or `https://…`.
        timeout_s: For connecting and for each answer.

    Raises:
        ConfigError: The URL is not one of these.
    """

    def __init__(self, url: str, *, timeout_s: int = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            raise ConfigError(f"not a URL: {url}") from None
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(f"not an RPC URL: {url}", hint="for example http://127.0.0.1:36651")
        self.url: Final = url
        self._path = parts.path or "/"
        self._count = 0
        secure = parts.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        self._connection = kind(parts.hostname, port, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def call(self, method: str, params: Mapping[str, Any] | Sequence[Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Call a method and return its result.

        Args:
            method: Its name.
            params: By name; by position for `eth_*`, `net_*` and `web3_*`.

        Raises:
            UserError: The node can not be reached, does not speak JSON-RPC, or answered an error.
            EndpointError: The settlement chain answered an error.
        """
        self._count += 1
        named = {} if params is None else params
        request = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": named}
        answer = self._exchange(json.dumps(request).encode())
        if not isinstance(answer, dict) or answer.get("id") not in {self._count, None}:
            raise self._strange("an answer to another call")
        if "error" in answer:
            raise error_of(method, answer["error"])
        if "result" not in answer:
            raise self._strange("neither result nor error")
        return answer["result"]

    def _exchange(self, body: bytes) -> object:
        headers = {"Content-Type": "application/json"}
        try:
            self._connection.request("POST", self._path, body=body, headers=headers)
            response = self._connection.getresponse()
            data = response.read(RESPONSE_BYTES_MAX + 1)
        except TimeoutError:
            self.close()
            raise self._unreachable("it did not answer in time") from None
        except (OSError, http.client.HTTPException) as error:
            self.close()
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise self._unreachable(why) from None
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise self._strange(f"HTTP {response.status} without JSON") from None

    def _unreachable(self, why: str) -> UserError:
        return UserError(
            "node_unreachable", f"no node answers at {self.url}: {why}", hint=_UNREACHABLE_HINT
        )

    def _strange(self, what: str) -> UserError:
        return UserError(
            "bad_response", f"{self.url} is no OmniNode: {what}", hint="check the URL and its port"
        )


class EndpointClient(RpcClient):
    """Calls an endpoint of the settlement chain itself, not through a node."""

    def _unreachable(self, why: str) -> UserError:
        return UserError(
            "settlement_unreachable",
            f"the settlement endpoint {self.url} does not answer: {why}",
            hint="start that endpoint, name another, or leave --endpoint out to ask by the node",
        )

    def _strange(self, what: str) -> UserError:
        return UserError(
            "bad_response",
            f"{self.url} is no endpoint of a settlement chain: {what}",
            hint="check the URL after --endpoint, and its port",
        )


def error_of(method: str, error: object) -> UserError | EndpointError:
    """Turn the error of an answer into ours: same reason and hint, or what the chain said.

    Args:
        method: What was called.
        error: The answer's error object.
    """
    if not isinstance(error, dict):
        return UserError(
            "bad_response", f"the node answered an error of unknown form: {error!r}"[:500]
        )
    detail = error.get("data")
    data = detail if isinstance(detail, dict) else {}
    code = error.get("code")
    if method.startswith(CHAIN_PREFIXES) and "reason" not in data:
        message = str(error.get("message", "an error without a message"))
        return EndpointError(code if isinstance(code, int) else 0, message, detail)
    reason = str(data.get("reason") or f"rpc_error_{code}")
    return UserError(reason, str(error.get("message", reason)), hint=str(data.get("hint") or ""))


def local_url(host: str, port: int) -> str:
    """Return the URL of an interface of this machine by where it listens."""
    host = _ANYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
