"""Which settlement chain a devnet has, as `--chain` names it."""

from __future__ import annotations

import stat
from functools import partial
from pathlib import Path

import pytest
import trio

from money_world import money_world
from omninode.crypto import checksum_address
from omninode.errors import ConfigError, UserError
from omninode.node.devnet import chain_place
from omninode.node.devnet.chain_place import ChainPlace, chain_process, choose_chain, find_anvil

DEPLOYER = bytes(range(20))


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_the_default_is_a_chain_of_our_own(tmp_path: Path) -> None:
    place = choose_chain("embedded", port=36_645, deployer=DEPLOYER)
    assert place == ChainPlace("embedded", "http://127.0.0.1:36645")
    assert place.port == 36_645
    process = chain_process(place, tmp_path / "chain", deployer=DEPLOYER)
    assert process is not None
    assert process.log_file.parent.is_dir()


@pytest.mark.parametrize("chosen", ["", "ganache", "ftp://127.0.0.1", "http://", "127.0.0.1:8545"])
def test_what_is_no_chain_is_refused(chosen: str) -> None:
    with pytest.raises(ConfigError, match="expected embedded, anvil or a URL"):
        choose_chain(chosen, port=1, deployer=DEPLOYER)


def test_a_chain_that_does_not_answer_is_named() -> None:
    with pytest.raises(UserError) as caught:
        choose_chain("http://127.0.0.1:1", port=1, deployer=DEPLOYER)
    assert caught.value.reason == "chain_unreachable"
    assert "http://127.0.0.1:1" in str(caught.value)


async def test_a_running_chain_tells_its_id_and_where_the_deployer_stands(tmp_path: Path) -> None:
    async with money_world(tmp_path) as world:
        url = world.url
        funded = partial(choose_chain, url, port=1, deployer=world.deployer.address)
        place = await trio.to_thread.run_sync(funded)
        assert (place.kind, place.url, place.chain_id, place.first_nonce) == ("url", url, 31_337, 0)
        assert place.port is None
        assert chain_process(place, tmp_path / "other", deployer=DEPLOYER) is None
        poor = partial(choose_chain, url, port=1, deployer=DEPLOYER)
        with pytest.raises(UserError) as caught:
            await trio.to_thread.run_sync(poor)
        assert caught.value.reason == "deployer_needs_coins"
        assert checksum_address(DEPLOYER) in caught.value.hint


def test_anvil_is_found_where_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_place, "_TREE", tmp_path)
    with pytest.raises(ConfigError, match="no anvil"):
        find_anvil({})
    in_tree = make_program(tmp_path / chain_place._ANVIL_IN_TREE)
    assert find_anvil({}) == in_tree
    on_path = make_program(tmp_path / "bin" / "anvil")
    assert find_anvil({"PATH": str(on_path.parent)}) == on_path
    named = make_program(tmp_path / "mine")
    assert find_anvil({"PATH": str(on_path.parent), "OMNINODE_ANVIL": str(named)}) == named
    with pytest.raises(ConfigError, match="can not be run"):
        find_anvil({"OMNINODE_ANVIL": str(tmp_path / "none")})
