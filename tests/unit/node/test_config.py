from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from omninode.errors import ConfigError
from omninode.node.config import SECTIONS, NodeConfig
from omninode.node.config_file import (
    FILE_BYTES_MAX,
    BadConfig,
    ConfigProblem,
    load_config,
    render_config,
    resolve_config,
    resolve_text,
    toml_value,
)

ROOT = Path(__file__).parents[3]
PEER = "/ip4/203.0.113.7/tcp/36650/p2p/12D3KooWJ2EGcjDToEv8RimRXvJAnER4ewGzjKxHazUKKwWJYdWC"


def problems(text: str, environment: dict[str, str] | None = None, *flags: str) -> list[str]:
    with pytest.raises(BadConfig) as failure:
        resolve_text(text, path="omninode.toml", environment=environment or {}, settings=flags)
    return [problem.line() for problem in failure.value.problems]


def test_the_reference_file_holds_the_defaults() -> None:
    assert (ROOT / "omninode.toml").read_text() == render_config(NodeConfig())


def test_the_sections_are_those_of_the_interface() -> None:
    assert list(SECTIONS) == [
        "node",
        "p2p",
        "consensus",
        "dex",
        "storage",
        "chat",
        "settlement",
        "rpc",
        "metrics",
        "log",
    ]


def test_every_key_has_a_default_and_a_comment() -> None:
    for name, section in SECTIONS.items():
        for key, field in section.model_fields.items():
            assert field.description, f"{name}.{key}"
            assert not field.is_required(), f"{name}.{key}"


def test_every_key_is_read_by_some_part_of_the_node() -> None:
    sources = [
        path.read_text()
        for package in ("node", "consensus", "storage")
        for path in (ROOT / package).rglob("*.py")
        if path.name not in {"config.py", "config_file.py"}
    ]
    text = "\n".join(sources)
    for name, section in SECTIONS.items():
        for key in section.model_fields:
            assert re.search(rf"\.{key}\b", text), f"nothing reads {name}.{key}"


def test_what_is_written_reads_back_equal() -> None:
    text = """
        [node]
        moniker = "a b.c"
        [p2p]
        listen = ["/ip6/::/tcp/1"]
        [log]
        levels = { consensus = "debug", rpc = "error" }
    """
    first = resolve_text(text, path="a", environment={}).config
    again = resolve_text(render_config(first), path="b", environment={}).config
    assert again == first
    assert again.node.moniker == "a b.c"
    assert again.log.levels == {"consensus": "debug", "rpc": "error"}


def test_a_flag_beats_the_environment_which_beats_the_file() -> None:
    text = "[rpc]\nport = 1\n[metrics]\nport = 1\n[consensus]\ndelta_ms = 11\n"
    resolved = resolve_text(
        text,
        path="omninode.toml",
        environment={"OMNINODE_RPC__PORT": "2", "OMNINODE_METRICS__PORT": "2", "HOME": "/"},
        settings=["rpc.port=3"],
    )
    assert resolved.config.rpc.port == 3
    assert resolved.config.metrics.port == 2
    assert resolved.config.consensus.delta_ms == 11
    assert resolved.origins["rpc", "port"].place == "flag --set rpc.port"
    assert resolved.origins["metrics", "port"].place == "environment OMNINODE_METRICS__PORT"
    assert resolved.origins["consensus", "delta_ms"].place == "omninode.toml:6"
    assert resolved.origins["rpc", "host"].kind == "default"


def test_lists_and_tables_come_from_the_environment_too() -> None:
    config = resolve_text(
        "",
        path="omninode.toml",
        environment={
            "OMNINODE_P2P__PEERS": f"{PEER}, {PEER}",
            "OMNINODE_RPC__CORS_ORIGINS": '["https://a.example", "*"]',
            "OMNINODE_LOG__LEVELS": "p2p=debug,rpc=warning",
        },
    ).config
    assert config.p2p.peers == [PEER, PEER]
    assert config.rpc.cors_origins == ["https://a.example", "*"]
    assert config.log.levels == {"p2p": "debug", "rpc": "warning"}


def test_an_error_names_file_line_key_and_what_was_expected() -> None:
    text = '[node]\nmoniker = "x"\n\n[rpc]\nport = "abc"\n'
    assert problems(text) == [
        'omninode.toml:5: rpc.port = "abc": expected an integer from 0 to 65535'
    ]


def test_all_errors_are_reported_at_once() -> None:
    text = """[rpc]
prot = 1
body_bytes_max = 5
[consensus]
delta_ms = 1.5
[nod]
[p2p]
listen = 3
peers = ["/ip4/1.2.3.4/udp/5", 7]
"""
    multiaddress = "expected a multiaddress such as /ip4/203.0.113.7/tcp/36650/p2p/PEER_ID"
    host = "expected an IP address or a host name"
    level = "expected 'debug', 'info', 'warning' or 'error'"
    sections = ", ".join(SECTIONS)
    found = problems(text, {"OMNINODE_RPC__HOST": "a b", "OMNINODE_X__Y": "1"}, "log.level=loud")
    assert sorted(found) == sorted(
        [
            f"environment OMNINODE_X__Y: [x]: unknown section; expected one of {sections}",
            "omninode.toml:2: rpc.prot: unknown key, did you mean port?",
            "omninode.toml:3: rpc.body_bytes_max = 5: expected an integer from 1024 to 67108864",
            "omninode.toml:5: consensus.delta_ms = 1.5: expected an integer from 5 to 60000",
            "omninode.toml:6: [nod]: unknown section, did you mean node?",
            "omninode.toml:8: p2p.listen = 3: expected a list of texts",
            f'omninode.toml:9: p2p.peers[0] = "/ip4/1.2.3.4/udp/5": {multiaddress}',
            "omninode.toml:9: p2p.peers[1] = 7: expected a text",
            f'environment OMNINODE_RPC__HOST: rpc.host = "a b": {host}',
            f'flag --set log.level: log.level = "loud": {level}',
        ]
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rpc = 3", "omninode.toml:1: rpc: expected a section [rpc]"),
        ("[rpc]\nport = true", "omninode.toml:2: rpc.port = true: expected an integer from 0"),
        ("[rpc]\nport = 65536", "omninode.toml:2: rpc.port = 65536: expected an integer from 0"),
        ("[rpc]\nport = -1", "omninode.toml:2: rpc.port = -1: expected an integer from 0 to 65535"),
        ("\n[rpc]\nport = ", "omninode.toml:3: not valid TOML: Invalid value"),
        ("rpc.port = 'x'", 'omninode.toml:1: rpc.port = "x": expected an integer'),
        ("[rpc]\nport = 1\nport = 2", "omninode.toml:3: not valid TOML: Cannot overwrite a value"),
        ("[node]\nmode = 'miner'", "expected 'validator' or 'full'"),
        ("[node]\nmoniker = ''", "up to 64 letters"),
        ("[dex]\nfoo = 1", "omninode.toml:2: dex.foo: unknown key; this section has no keys yet"),
        ("[log]\nlevels = { foo = 'debug' }", "omninode.toml:2: log.levels"),
        ("[p2p]\nlisten = []", "omninode.toml:2: p2p.listen = []"),
        ("[p2p.listen]\nx = 1", "omninode.toml:1: p2p.listen"),
    ],
)
def test_impossible_files(text: str, expected: str) -> None:
    (line,) = problems(text)
    assert expected in line


def test_values_only_make_sense_together() -> None:
    text = "[consensus]\nmin_block_interval_ms = 3000\nidle_block_interval_ms = 2000\n"
    (line,) = problems(text)
    assert line == (
        "omninode.toml:3: consensus.idle_block_interval_ms = 2000: "
        "expected at least min_block_interval_ms, 3000"
    )
    (line,) = problems("[rpc]\nport = 5\n[metrics]\nport = 5\n")
    assert line.startswith("omninode.toml:4: metrics.port = 5")


def test_a_broken_flag_is_named() -> None:
    with pytest.raises(ConfigError, match=r"--set rpc: expected SECTION\.KEY=VALUE"):
        resolve_text("", path="x", environment={}, settings=["rpc"])


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "omninode.toml"
    with pytest.raises(ConfigError, match="no configuration at"):
        load_config(path, environment={})
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(path, environment={})
    path.write_text("#" * (FILE_BYTES_MAX + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(path, environment={})
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match=r"omninode\.toml: "):
        load_config(path, environment={})


def test_the_file_is_named_with_its_path(tmp_path: Path) -> None:
    path = tmp_path / "omninode.toml"
    path.write_text("[rpc]\nport = 0\n")
    resolved = resolve_config(path, environment={})
    assert resolved.origins["rpc", "port"].place == f"{path}:2"


def test_a_configuration_can_not_be_changed_afterwards() -> None:
    with pytest.raises(ValueError, match="frozen"):
        NodeConfig().rpc.port = 5  # type: ignore[misc]


@given(st.text(max_size=200))
def test_any_text_as_a_file_is_read_or_refused(text: str) -> None:
    with suppress(BadConfig):
        resolve_text(text, path="omninode.toml", environment={})


@given(
    st.sampled_from(
        [(name, key) for name, model in SECTIONS.items() for key in model.model_fields]
    ),
    st.text(max_size=50).filter(lambda text: "\0" not in text),
)
def test_any_text_as_a_value_is_read_or_refused(place: tuple[str, str], text: str) -> None:
    section, key = place
    name = f"OMNINODE_{section}__{key}".upper()
    found: tuple[ConfigProblem, ...] = ()
    try:
        resolve_text("", path="omninode.toml", environment={name: text})
    except BadConfig as error:
        found = error.problems
    assert {problem.place for problem in found} <= {f"environment {name}"}


@given(st.text(max_size=60))
def test_any_text_survives_as_toml(text: str) -> None:
    if any(0xD800 <= ord(character) <= 0xDFFF for character in text):
        return
    assert tomllib.loads(f"x = {toml_value(text)}") == {"x": text}
