"""`GET /metrics` on a port of its own, so that it can be open to the operator alone."""

from __future__ import annotations

from typing import Any, Final

import trio
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from omninode.node.config import MetricsSection
from omninode.node.rpc.app import respond
from omninode.node.rpc.connection import refusal_body
from omninode.node.rpc.limits import METRICS_CONNECTIONS_MAX
from omninode.node.rpc.session import Receive, Send
from omninode.node.rpc.transport import Address, HttpServer

_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", CONTENT_TYPE_LATEST.encode())


class MetricsServer:
    """Serves a registry to Prometheus.

    Args:
        registry: What is shown.
        settings: `[metrics]` of the configuration.
    """

    def __init__(self, registry: CollectorRegistry, *, settings: MetricsSection) -> None:
        self._registry = registry
        self._server = HttpServer(
            self._serve,
            host=settings.host,
            port=settings.port,
            connections_max=METRICS_CONNECTIONS_MAX,
            connections_per_client_max=METRICS_CONNECTIONS_MAX,
            message_bytes_max=1,
        )

    async def run(
        self, *, task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve until cancelled; reports the bound addresses.

        Raises:
            ConfigError: The address can not be bound.
        """
        await self._server.run(task_status=task_status)

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await receive()
            await send({"type": "websocket.close"})
        elif scope["path"] != "/metrics":
            body = refusal_body("unknown_path", "nothing is here", hint="GET /metrics")
            await respond(send, 404, body, [_JSON])
        elif scope["method"] not in ("GET", "HEAD"):
            body = refusal_body("method_not_allowed", "not a method of /metrics", hint="GET it")
            await respond(send, 405, body, [_JSON, (b"allow", b"GET, HEAD")])
        else:
            await respond(send, 200, generate_latest(self._registry), [_TEXT])
