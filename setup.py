"""Builds the engine as compiled modules if asked: `OMNINODE_MYPYC=1 pip install .` does.

Everything else about the package is in pyproject.toml. The compiled modules are the same source,
translated by mypyc; where they are absent Python runs the source, with the same state hashes
(tests/e2e/test_compiled_engine.py). A module that declares msgspec structs can not be among them:
mypyc drops a class's keyword arguments.
"""

import os

from setuptools import setup

COMPILED = (
    "accounts",
    "agents",
    "book",
    "client_ids",
    "decimals",
    "exchange",
    "fees",
    "hashing",
    "invariants",
    "markets",
    "matching",
    "nonces",
    "open_orders",
    "ordering",
    "orders",
    "records",
    "settlement",
    "state",
    "transfers",
)

if os.environ.get("OMNINODE_MYPYC") == "1":
    try:
        from mypyc.build import mypycify
    except ImportError:  # the first of pip's two calls asks only what the build needs
        setup(setup_requires=["mypy"])
    else:
        paths = [f"src/omninode/dex/{name}.py" for name in COMPILED]
        setup(ext_modules=mypycify(["--ignore-missing-imports", *paths]))
else:
    setup()
