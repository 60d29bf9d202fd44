"""A new signer guard after the old one was lost: the operator's way out (PROTOCOL.md P7)."""

from __future__ import annotations

from typing import Any, Final

from omninode.consensus.guard import SignerGuard
from omninode.errors import ConfigError
from omninode.node.home import Home

VIEW_MARGIN: Final = 16
"""Views beyond the newest known one in which this key may have voted before its guard was lost."""


def rearm_guard(home: Home, *, epoch: int, newest_view: int) -> dict[str, Any]:
    """Make a guard that refuses every view in which the key may have voted.

    Args:
        home: The home of the stopped validator.
        epoch: The network's present epoch.
        newest_view: The newest view that the network has reached.

    Returns:
        What was done, JSON-ready.

    Raises:
        ConfigError: There is no vote key here, or the guard is used by a running process.
        UserError: `home_locked`.
        StorageFault: The guard can not be written.
    """
    if not home.validator_keystore.is_file():
        raise ConfigError(f"no vote key in {home.path}", hint="only a validator has a signer guard")
    with home.locked():
        floor = newest_view + VIEW_MARGIN
        guard = SignerGuard.rearm(home.signer_guard, floor_epoch=epoch, floor_view=floor)
        epoch, view = guard.floor
        guard.close()
    return {"guard": str(home.signer_guard), "first_epoch": epoch, "first_view": view}
