"""Which web pages may use the node: CORS for HTTP, the `Origin` check for WebSocket.

Browsers enforce CORS on HTTP by themselves; a WebSocket they let any page open, so there the server
must refuse. Programs that are no browsers send no `Origin` and are not concerned.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

ANY: Final = b"*"
PREFLIGHT_SECONDS: Final = 600


class OriginPolicy:
    """Decides by the configured origins.

    Args:
        origins: Such as `https://trade.example`, or `*` for any.
    """

    def __init__(self, origins: Iterable[str]) -> None:
        self._origins = frozenset(origin.lower().encode() for origin in origins)

    def _allows(self, origin: bytes) -> bool:
        return ANY in self._origins or origin.lower() in self._origins

    def headers(self, request: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return the response headers that let the asking page read the answer."""
        origin = request.get(b"origin")
        if not self._origins:
            return []
        vary = (b"vary", b"Origin")
        if origin is None or not self._allows(origin):
            return [vary]
        return [(b"access-control-allow-origin", origin), vary]

    def preflight(self, request: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        """Return what a browser wants to know before it sends a POST with JSON."""
        origin = request.get(b"origin")
        if origin is None or not self._allows(origin):
            return []
        return [
            (b"access-control-allow-methods", b"POST, OPTIONS"),
            (b"access-control-allow-headers", b"content-type"),
            (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
        ]

    def allows_websocket(self, request: Mapping[bytes, bytes]) -> bool:
        """Whether a WebSocket handshake may go on."""
        origin = request.get(b"origin")
        return origin is None or self._allows(origin)
