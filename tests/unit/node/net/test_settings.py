from __future__ import annotations

import pytest

from omninode.errors import ConfigError
from omninode.node.net.settings import TcpAddress


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("/ip4/127.0.0.1/tcp/36650", TcpAddress("127.0.0.1", 36650)),
        ("/ip6/::1/tcp/1", TcpAddress("::1", 1)),
        ("/dns/node.example/tcp/1/p2p/12D3", TcpAddress("node.example", 1, "12D3")),
    ],
)
def test_an_address_reads_back(text: str, address: TcpAddress) -> None:
    assert TcpAddress.parse(text) == address
    assert address.text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:1",
        "/ip4/127.0.0.1/udp/1",
        "/ip4/127.0.0.1/tcp/65536",
        "/ip4/127.0.0.1/tcp/-1",
        "/ip4/127.0.0.1/tcp/1/p2p/",
        "/ip4/127.0.0.1/tcp/1/ws",
        "/unix/a/tcp/1",
    ],
)
def test_other_addresses_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        TcpAddress.parse(text)
