"""`rpc.discover`: the interface describes itself."""

from __future__ import annotations

from typing import Any

from omninode.node.rpc.context import Context
from omninode.node.rpc.registry import Params, method


@method("rpc.discover", result=dict[str, Any], reads_state=False, cost=5)
def discover(context: Context[Any], params: Params) -> dict[str, Any]:
    """Return the OpenRPC document of this interface."""
    del context, params
    # The catalogue holds this method too, so it can be imported when everything is in place only.
    from omninode.node.rpc.catalogue import METHODS  # noqa: PLC0415
    from omninode.node.rpc.openrpc import describe  # noqa: PLC0415

    return describe(METHODS)
