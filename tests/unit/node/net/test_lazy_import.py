"""Importing libp2p takes one to two seconds: only what talks to peers may do it."""

from __future__ import annotations

import subprocess
import sys

LIGHT = (
    "limits",
    "framing",
    "identity",
    "settings",
    "peers",
    "hello",
    "negotiation",
    "admission",
)


def test_the_light_modules_do_not_load_libp2p() -> None:
    modules = ", ".join(f"omninode.node.net.{name}" for name in LIGHT)
    code = f"import sys; import {modules}; sys.exit('libp2p' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
