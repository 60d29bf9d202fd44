"""The web3 library, imported with care: it takes about a second and 60 MB, and has a side effect.

Nothing imports this before a settlement chain is configured.
"""

from __future__ import annotations

import sys

_limit = sys.getrecursionlimit()
# A package below it raises the interpreter's recursion limit a hundredfold for its own arithmetic.
# In a node that would turn deeply nested input from an error into a crash of the process.
import eth_account  # noqa: E402
import web3  # noqa: E402
import web3.exceptions  # noqa: E402
import web3.providers.async_base  # noqa: E402

sys.setrecursionlimit(_limit)

__all__ = ["eth_account", "web3"]
