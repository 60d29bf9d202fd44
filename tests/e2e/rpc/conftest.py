"""Gives the tests of this folder servers and clients; loads `tests/rpc_*.py` for them."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import rpc_wire
import rpc_world
from rpc_wire import DEADLINE_S, Running
from rpc_world import Client, World


@pytest.fixture
async def node() -> AsyncIterator[Running]:
    async with rpc_wire.running() as it:
        yield it


@pytest.fixture
async def http(node: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=node.url, timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with rpc_world.running(tmp_path) as it:
        yield it


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=world.url, timeout=DEADLINE_S) as http:
        yield Client(http)
