"""The dev chain as a task in this process: it answers, mines, stops, and fails aloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from devchain_bench import ALICE, COINS, signed

from omninode.contracts.devchain.service import ChainSettings, run_chain
from omninode.contracts.devchain.store import Changes, Store
from omninode.errors import ConfigError, StorageFault


def settings(home: Path, **more: Any) -> ChainSettings:
    told = {"port": 0, "block_interval_ms": 20, "alloc": {ALICE.address: COINS}, **more}
    return ChainSettings(home=home, **told)


async def ask(client: httpx.AsyncClient, method: str, *arguments: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": arguments}
    return (await client.post("/", json=body)).json()


async def test_it_answers_mines_and_goes_on_where_it_was(tmp_path: Path) -> None:
    item = signed(ALICE, 0)
    for start in range(2):
        async with trio.open_nursery() as nursery:
            url = await nursery.start(run_chain, settings(tmp_path))
            async with httpx.AsyncClient(base_url=url) as client:
                if start == 0:
                    sent = await ask(client, "eth_sendRawTransaction", "0x" + item.raw.hex())
                    assert sent["result"] == "0x" + item.hash.hex()
                with trio.fail_after(20):
                    while not (
                        found := await ask(
                            client, "eth_getTransactionReceipt", "0x" + item.hash.hex()
                        )
                    )["result"]:
                        await trio.sleep(0.01)
                assert found["result"]["status"] == "0x1"
            nursery.cancel_scope.cancel()


async def test_it_hashes_for_a_caller(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        url = await nursery.start(run_chain, settings(tmp_path))
        async with httpx.AsyncClient(base_url=url) as client:
            empty = await ask(client, "web3_sha3", "0x")
            assert empty["result"] == (
                "0xc5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
            )
            assert (await ask(client, "web3_sha3", "abc"))["error"]["code"] == -32602
            assert (await ask(client, "eth_getProof"))["error"]["code"] == -32601
        nursery.cancel_scope.cancel()


async def test_a_failing_disk_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_store: Store, _changes: Changes) -> None:
        raise StorageFault("no space left")

    with pytest.RaisesGroup(StorageFault, allow_unwrapped=True, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(run_chain, settings(tmp_path))
            monkeypatch.setattr(Store, "write", fail)
            await trio.sleep(20)


@pytest.mark.parametrize(
    "wrong",
    [
        {"block_interval_ms": 1},
        {"chain_id": 0},
        {"port": -1},
        {"port": 65_536},
        {"alloc": {"0x12": 1}},
        {"alloc": {ALICE.address: -1}},
        {"host": "256.0.0.1"},
    ],
)
async def test_wrong_settings_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.RaisesGroup(ConfigError, allow_unwrapped=True, flatten_subgroups=True):
        await run_chain(settings(tmp_path, **wrong))
