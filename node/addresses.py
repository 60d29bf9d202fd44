"""Checks of the addresses that people write into the configuration, without loading libp2p.

They accept what the node can use: TCP multiaddresses, hosts to bind, origins of web pages, URLs of
endpoints. The errors are `ValueError`s whose text says what was expected; `config_file.py` adds
the place.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9-]+)*\.?")
_PEER_ID = re.compile(r"[1-9A-HJ-NP-Za-km-z]{32,64}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.\[\]:-]+")


def check_host(text: str) -> str:
    """Return `text` if it is an IP address or a host name.

    Raises:
        ValueError: It is neither.
    """
    try:
        ipaddress.ip_address(text)
    except ValueError:
        if _NAME.fullmatch(text) is None:
            raise ValueError("expected an IP address or a host name") from None
    return text


def check_listen_address(text: str) -> str:
    """Return `text` if it is an address to listen on, `/ip4/HOST/tcp/PORT` or `/ip6/HOST/tcp/PORT`.

    Raises:
        ValueError: It is not.
    """
    parts = text.split("/")
    shaped = len(parts) == 5 and parts[0] == "" and parts[3] == "tcp"
    if shaped and _is_address(parts[1], parts[2], names=False) and _is_port(parts[4]):
        return text
    raise ValueError("expected a multiaddress such as /ip4/0.0.0.0/tcp/36650")


def check_peer_address(text: str) -> str:
    """Return `text` if it is a peer's address, `/ip4|ip6|dns4|dns6|dns/HOST/tcp/PORT/p2p/PEER_ID`.

    Raises:
        ValueError: It is not.
    """
    parts = text.split("/")
    if len(parts) == 7 and parts[0] == "" and parts[3] == "tcp" and parts[5] == "p2p":
        dialable = _is_address(parts[1], parts[2], names=True) and _is_port(parts[4])
        if dialable and parts[4] != "0" and _PEER_ID.fullmatch(parts[6]) is not None:
            return text
    raise ValueError("expected a multiaddress such as /ip4/203.0.113.7/tcp/36650/p2p/PEER_ID")


def check_origin(text: str) -> str:
    """Return `text` if it is a web origin (`https://host[:port]`) or `*`.

    Raises:
        ValueError: It is neither.
    """
    if text != "*" and _ORIGIN.fullmatch(text) is None:
        raise ValueError('expected "*" or an origin such as https://trade.example (no path)')
    return text


def check_endpoint_url(text: str) -> str:
    """Return `text` if it is the URL of a JSON-RPC endpoint; it may hold a path and a key.

    Raises:
        ValueError: It is not.
    """
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        named = False
    if not named or parts.scheme not in {"http", "https"} or not text.isascii() or " " in text:
        raise ValueError("expected a URL such as https://ethereum.example or http://127.0.0.1:8545")
    return text


def _is_address(protocol: str, host: str, *, names: bool) -> bool:
    try:
        if protocol == "ip4":
            ipaddress.IPv4Address(host)
        elif protocol == "ip6":
            ipaddress.IPv6Address(host)
        else:
            return names and protocol in {"dns", "dns4", "dns6"} and bool(_NAME.fullmatch(host))
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65535
