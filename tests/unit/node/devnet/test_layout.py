"""What is refused before anything of a devnet is written."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from omninode.errors import ConfigError, UserError
from omninode.node.devnet.layout import WorldOptions
from omninode.node.devnet.world import opened_world
from omninode.node.home import Home

PORT = 21_850

MakeChain = Callable[[int, Any], str]


def make(path: Path, **options: Any) -> None:
    options = {"validators": 1, "base_port": PORT, **options}
    with opened_world(Home(path), WorldOptions(**options), step=lambda _: None):
        pass


def content(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.fixture
def make_chain() -> Iterator[MakeChain]:
    """Make an endpoint that tells a chain id, and answers the rest with one thing."""
    servers = []

    def make_one(chain_id: int, rest: Any) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                result = hex(chain_id) if asked["method"] == "eth_chainId" else rest
                body = json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield make_one
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("chain_id", [1, 10, 11_155_111, 17_000])
def test_a_chain_that_is_no_development_chain_is_refused(
    tmp_path: Path, make_chain: MakeChain, chain_id: int
) -> None:
    """Also a public test network; before a folder is made, or anybody is asked for coins."""
    with pytest.raises(ConfigError) as caught:
        make(tmp_path / "new", chain=make_chain(chain_id, "0x0"))
    for words in (str(chain_id), "1337 or 31337", "public test network", "keys"):
        assert words in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_reset_to_such_a_chain_leaves_everything(tmp_path: Path, make_chain: MakeChain) -> None:
    make(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError):
        make(tmp_path, reset=True, chain=make_chain(1, "0x0"))
    assert content(tmp_path) == before


def test_a_devnet_that_was_made_on_such_a_chain_does_not_go_on(tmp_path: Path) -> None:
    make(tmp_path)
    path = tmp_path / "devnet.json"
    document = json.loads(path.read_text())
    document["chain"]["chain_id"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match="keys"):
        make(tmp_path)


@pytest.mark.parametrize("rest", ["0x10", None, {}, [], "0x", 7])
def test_what_is_no_chain_is_refused_in_words(
    tmp_path: Path, make_chain: MakeChain, rest: Any
) -> None:
    url = make_chain(31_337, rest)
    with pytest.raises(UserError) as caught:
        make(tmp_path / "new", chain=url)
    assert caught.value.reason == "bad_response"
    assert url in str(caught.value)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("port", [PORT, PORT + 1, PORT + 2, PORT + 11])
def test_a_port_for_two_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(ConfigError, match=f"--chain-port {port}: node"):
        make(tmp_path / "new", validators=2, chain_port=port)
    assert not (tmp_path / "new").exists()


def test_a_port_for_two_is_refused_also_later(tmp_path: Path) -> None:
    make(tmp_path)
    before = content(tmp_path)
    with pytest.raises(ConfigError, match=f"--chain-port {PORT + 1}: node0"):
        make(tmp_path, chain_port=PORT + 1)
    assert content(tmp_path) == before


def test_a_port_between_two_validators_is_free_for_the_chain(tmp_path: Path) -> None:
    make(tmp_path, validators=2, chain_port=PORT + 5)
    assert json.loads((tmp_path / "devnet.json").read_text())["chain"]["url"].endswith("55")


def test_ports_are_looked_at_before_a_reset_wipes_anything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("omninode.node.devnet.layout.PORTS_DEADLINE_S", 0.1)
    make(tmp_path)
    before = content(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", PORT + 1))
        other.listen()
        with pytest.raises(UserError, match=f"port {PORT + 1}, for node0"):
            make(tmp_path, reset=True)
    assert content(tmp_path) == before
