"""The dev chain as a program: it ends with a signal, and every failure is one plain error."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest
from devchain_bench import ALICE, COINS

from omninode.contracts.devchain import program as program_module
from omninode.contracts.devchain.program import STOP_SIGNALS, run_program
from omninode.contracts.devchain.service import ChainSettings
from omninode.contracts.devchain.store import Store
from omninode.errors import ConfigError, StorageFault


def settings(home: Path, *, port: int = 0) -> ChainSettings:
    return ChainSettings(home=home, port=port, block_interval_ms=20, alloc={ALICE.address: COINS})


def never(url: str) -> None:
    pytest.fail(f"it listens at {url}")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_signal_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    urls: list[str] = []

    def stop(url: str) -> None:
        urls.append(url)
        signal.raise_signal(number)

    run_program(settings(tmp_path), on_listening=stop)
    [url] = urls
    assert url.startswith("http://127.0.0.1:")
    Store.open(tmp_path / "evm").close()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigError, match="can not listen") as failure,
    ):
        run_program(settings(tmp_path, port=taken.getsockname()[1]), on_listening=never)
    assert failure.value.hint
    Store.open(tmp_path / "evm").close()


def test_a_folder_in_use_or_damaged(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "evm")
    with pytest.raises(StorageFault, match="another process"):
        run_program(settings(tmp_path), on_listening=never)
    store.close()
    (tmp_path / "evm" / "CURRENT").write_text("rubbish\n")
    with pytest.raises(StorageFault):
        run_program(settings(tmp_path), on_listening=never)


def test_several_failures_are_told_as_one_and_defects_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = StorageFault("the disk is full")

    async def fail(*_: object, **__: object) -> None:
        raise group

    monkeypatch.setattr(program_module, "run_chain", fail)
    group = ExceptionGroup("", [ExceptionGroup("", [full]), ConfigError("x")])
    with pytest.raises(StorageFault) as failure:
        run_program(settings(tmp_path), on_listening=never)
    assert failure.value is full
    group = ExceptionGroup("", [full, ZeroDivisionError()])
    with pytest.RaisesGroup(StorageFault, ZeroDivisionError, flatten_subgroups=True):
        run_program(settings(tmp_path), on_listening=never)
