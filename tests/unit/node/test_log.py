from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from omninode.node.log import configure_logging, get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.captureWarnings(False)
    logging.root.handlers[:], logging.root.level = handlers, level
    structlog.reset_defaults()


def configured(**settings: Any) -> io.StringIO:
    stream = io.StringIO()
    configure_logging(**{"level": "info", "form": "json", "stream": stream, **settings})
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_has_one_object_a_line_with_time_level_and_subsystem() -> None:
    stream = configured()
    get_logger("rpc").info("listening", port=5, peer=b"\x01")
    (line,) = lines(stream)
    assert line["event"] == "listening"
    assert line["level"] == "info"
    assert line["subsystem"] == "rpc"
    assert line["port"] == 5
    assert line["timestamp"].endswith("Z")


def test_levels_hold_per_subsystem() -> None:
    stream = configured(levels={"consensus": "debug", "p2p": "error"})
    for subsystem in ("consensus", "p2p", "rpc"):
        get_logger(subsystem).debug("quiet")
        get_logger(subsystem).warning("loud")
    found = [(line["subsystem"], line["event"]) for line in lines(stream)]
    assert found == [("consensus", "quiet"), ("consensus", "loud"), ("rpc", "loud")]


def test_a_name_given_to_structlog_is_the_subsystem() -> None:
    stream = configured(levels={"consensus": "error"})
    log = structlog.get_logger("consensus")
    log.info("quiet")
    log.error("loud")
    assert [(line["subsystem"], line["event"]) for line in lines(stream)] == [("consensus", "loud")]


def test_loggers_made_before_configuration_follow_it() -> None:
    log = get_logger("node")
    stream = configured(level="error")
    log.info("quiet")
    log.error("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_libraries_come_through_from_warning_up_and_cut() -> None:
    stream = configured()
    logging.getLogger("library.x").info("quiet")
    logging.getLogger("library.x").warning("peer said %s", "x" * 10_000)
    logging.getLogger("library.x").error("wrong %d", "text")
    first, second = lines(stream)
    assert (first["level"], first["logger"]) == ("warning", "library.x")
    assert first["message"].startswith("peer said xxx")
    assert len(first["message"]) < 3_000
    assert second["message"] == "wrong %d"


def test_an_exception_is_shown_with_its_place() -> None:
    stream = configured()
    try:
        raise ValueError("seven")
    except ValueError:
        get_logger("node").exception("failed")
    (line,) = lines(stream)
    assert "seven" in json.dumps(line["exception"])


def test_the_console_form_is_one_readable_line() -> None:
    stream = configured(form="console")
    get_logger("rpc").info("listening", port=5)
    (line,) = stream.getvalue().splitlines()
    assert "listening" in line
    assert "port=5" in line
    assert "\x1b" not in line
