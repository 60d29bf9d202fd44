"""The folder of a devnet: what is in it, what is kept, what is refused."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from omninode.crypto import checksum_address
from omninode.dex.exchange import Exchange
from omninode.errors import ConfigError, UserError
from omninode.node.config_file import load_config
from omninode.node.devnet.accounts import (
    HOUSE,
    MOVERS,
    PEOPLE,
    TRADERS_PER_SIDE,
    derive_key,
    staker,
)
from omninode.node.devnet.layout import WorldOptions
from omninode.node.devnet.world import World, opened_world
from omninode.node.home import Home
from omninode.node.keys.keystore import list_keystores, read_keystore

PORT = 21_650


def make(path: Path, **options: int | bool) -> World:
    options.setdefault("validators", 2)
    options.setdefault("base_port", PORT)
    with opened_world(Home(path), WorldOptions(**options), step=lambda _: None) as world:
        return world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make(tmp_path_factory.mktemp("devnet"))


def test_each_node_is_an_ordinary_home_with_its_ports(world: World) -> None:
    for index in range(2):
        home = Home(world.home.path / f"node{index}")
        home.require()
        config = load_config(home.config, environment={})
        assert config.p2p.listen == [f"/ip4/127.0.0.1/tcp/{PORT + 10 * index}"]
        assert config.rpc.port == PORT + 10 * index + 1
        assert config.metrics.port == PORT + 10 * index + 2
        assert len(config.p2p.peers) == 1
        assert config.rpc.requests_per_second > 100_000
        assert home.genesis.read_bytes() == world.nodes[0].home.genesis.read_bytes()


def test_people_own_what_is_promised(world: World) -> None:
    state = Exchange.genesis(world.genesis).state
    for name in PEOPLE:
        account = state.accounts.find(world.keys[name].address, 0)
        assert account is not None
        owned = {
            asset.name: account.balance(index).free // 10**asset.decimals
            for index, asset in enumerate(world.genesis.assets)
        }
        assert owned == {"USDC": 1_000_000, "BTC": 10, "ETH": 100, "XOM": 100_000}


def test_markets_are_those_of_the_interface(world: World) -> None:
    grids = {market.name: (market.tick, market.lot) for market in world.genesis.markets}
    assert grids == {
        "BTC-USDC": ("0.01", "0.00000001"),
        "ETH-USDC": ("0.01", "0.0001"),
        "XOM-USDC": ("0.0001", "1"),
    }


def test_keystores_open_with_the_password_beside_them(world: World) -> None:
    folder = world.home.path / "accounts"
    password = (folder / "password").read_text().strip()
    entries = {entry.name: entry for entry in list_keystores(folder)}
    assert set(entries) >= {*PEOPLE, HOUSE}
    stakers = [staker(index) for index in range(len(world.nodes))]
    assert set(entries) >= {*stakers}
    assert len(entries) == len(PEOPLE) + 1 + 2 * TRADERS_PER_SIDE + len(MOVERS) + len(stakers)
    owners = [entry.owner for entry in world.genesis.validators]
    assert owners == [checksum_address(derive_key(world.seed, name).address) for name in stakers]
    for name in ("alice", "seller-03"):
        assert read_keystore(entries[name].path, password).secret == world.keys[name].secret


def test_the_document_tells_urls_and_accounts_and_no_secret(world: World) -> None:
    text = (world.home.path / "devnet.json").read_text()
    document = json.loads(text)
    assert document["nodes"][1]["rpc"] == f"http://127.0.0.1:{PORT + 11}"
    assert document["chain_id"] == world.genesis.chain_id
    assert document["accounts"]["bob"] == checksum_address(world.keys["bob"].address)
    assert all(key.secret.hex() not in text for key in world.keys.values())


def test_keys_derive_from_the_seed(world: World) -> None:
    assert derive_key(1, "alice").secret == world.keys["alice"].secret
    assert derive_key(2, "alice").secret != world.keys["alice"].secret


def test_opened_again_it_is_the_same_world(world: World) -> None:
    again = make(world.home.path)
    assert again.genesis.hash == world.genesis.hash
    assert not again.is_new


def test_other_ports_are_written_into_the_configurations(tmp_path: Path) -> None:
    first = make(tmp_path)
    moved = make(tmp_path, base_port=PORT + 100)
    assert moved.genesis.hash == first.genesis.hash
    config = load_config(moved.nodes[1].home.config, environment={})
    assert config.rpc.port == PORT + 111
    assert config.p2p.peers[0].startswith(f"/ip4/127.0.0.1/tcp/{PORT + 100}/p2p/")
    with opened_world(Home(tmp_path), WorldOptions(), step=lambda _: None) as found:
        assert found.base_port == PORT + 100


def test_reset_makes_a_new_world_and_removes_the_old(tmp_path: Path) -> None:
    first = make(tmp_path)
    mark = first.nodes[0].home.data / "mark"
    mark.write_text("x")
    second = make(tmp_path, reset=True, validators=1)
    assert second.genesis.hash != first.genesis.hash
    assert not mark.exists()
    assert not first.nodes[1].home.path.exists()


def test_an_unfinished_world_is_made_anew(tmp_path: Path) -> None:
    first = make(tmp_path)
    (tmp_path / "devnet.json").unlink()
    second = make(tmp_path)
    assert second.is_new
    assert second.genesis.hash != first.genesis.hash


@pytest.mark.parametrize("option", [{"validators": 3}, {"seed": 7}])
def test_options_that_contradict_what_is_there_are_refused(
    world: World, option: dict[str, int]
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(world.home.path, **option)
    assert "--reset" in caught.value.hint


@pytest.mark.parametrize(
    "option",
    [{"validators": 0}, {"validators": 33}, {"base_port": 80}, {"base_port": 65_530}, {"seed": -1}],
)
def test_impossible_options_are_refused_before_anything_is_made(
    tmp_path: Path, option: dict[str, int]
) -> None:
    with pytest.raises(ConfigError):
        make(tmp_path / "new", **option)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("reset", [False, True])
def test_a_folder_with_other_things_is_left_alone(tmp_path: Path, reset: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        make(tmp_path, reset=reset)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_damaged_document_is_refused_until_reset(tmp_path: Path) -> None:
    make(tmp_path)
    (tmp_path / "devnet.json").write_text('{"validators": 2')
    with pytest.raises(ConfigError, match=r"devnet\.json"):
        make(tmp_path)
    assert make(tmp_path, reset=True).is_new


def test_a_running_devnet_keeps_others_out(world: World) -> None:
    with world.home.locked(), pytest.raises(UserError) as caught:
        make(world.home.path)
    assert caught.value.reason == "home_locked"


def test_a_port_in_use_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("omninode.node.devnet.layout.PORTS_DEADLINE_S", 0.1)
    with socket.socket() as other:
        other.bind(("127.0.0.1", PORT + 11))
        other.listen()
        with pytest.raises(UserError, match=f"port {PORT + 11}, for node1") as caught:
            make(world.home.path)
    assert caught.value.reason == "port_in_use"


def test_a_port_that_is_lent_for_a_moment_is_waited_for(world: World) -> None:
    other = socket.socket()
    other.bind(("127.0.0.1", PORT + 1))
    other.listen()
    timer = threading.Timer(0.3, other.close)
    timer.start()
    try:
        assert make(world.home.path).genesis.hash == world.genesis.hash
    finally:
        timer.join()
