"""Reading the file, the environment and flags into a `NodeConfig`; writing a commented file.

The rules are in `config.py`. A setting keeps its origin (`Origin`), so that an error and `omninode
config show` can name the line, variable or flag it came from.
"""

from __future__ import annotations

import difflib
import re
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from omninode.errors import ConfigError
from omninode.node.config import SECTIONS, NodeConfig, conflicts

ENVIRONMENT_PREFIX: Final = "OMNINODE_"
FILE_BYTES_MAX: Final = 1_048_576
"""A larger configuration file is refused unread."""
COMMENT_WIDTH: Final = 96

_HEAD: Final = """\
# OmniNode's configuration. Every key is here with its default; a key that is left out has it too.
# The environment overrides this file, OMNINODE_<SECTION>__<KEY> (OMNINODE_RPC__PORT=9000), and a
# flag overrides both (`omninode start --set rpc.port=9000`).
# What all nodes of a network must agree on is not here but in genesis.json.
"""

_SECTION_LINE = re.compile(r"\s*\[\s*([A-Za-z0-9_.-]+)\s*\]")
_KEY_LINE = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")
_SYNTAX_PLACE = re.compile(r"\(at line (\d+), column \d+\)")
_INTEGER = re.compile(r"[+-]?\d{1,30}")
_TRUTHS: Final = {"true": True, "false": False}

Key = tuple[str, str]
"""A section and a key in it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: `default`, `file`, `environment` or `flag`; and the exact place."""

    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with the configuration."""

    place: str
    key: str
    expected: str

    def line(self) -> str:
        """Return the line to print."""
        return ": ".join(part for part in (self.place, self.key, self.expected) if part)


class BadConfig(ConfigError):
    """The configuration can not be used; carries every problem, not only the first (C2)."""

    def __init__(self, problems: Sequence[ConfigProblem]) -> None:
        super().__init__(
            "\n".join(problem.line() for problem in problems),
            hint="`omninode config check` reads the configuration again without starting anything",
        )
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class ResolvedConfig:
    """A valid configuration and the origin of each of its values."""

    config: NodeConfig
    origins: dict[Key, Origin]


def load_config(
    path: Path, *, environment: Mapping[str, str], settings: Sequence[str] = ()
) -> NodeConfig:
    """Resolve the configuration of a home.

    Args:
        path: The `omninode.toml`.
        environment: The process's environment (C1).
        settings: `SECTION.KEY=VALUE` texts of `--set` flags (C1).

    Raises:
        BadConfig: Anything C2 names.
        ConfigError: There is no such file, or it can not be read.
    """
    return resolve_config(path, environment=environment, settings=settings).config


def resolve_config(
    path: Path, *, environment: Mapping[str, str], settings: Sequence[str] = ()
) -> ResolvedConfig:
    """Do what `load_config` does, and keep where each value came from."""
    return resolve_text(
        _read_text(path), path=str(path), environment=environment, settings=settings
    )


def resolve_text(
    text: str, *, path: str, environment: Mapping[str, str], settings: Sequence[str] = ()
) -> ResolvedConfig:
    """Resolve a configuration whose text is already there; errors name `path`."""
    values, lines = _parse(text, path)
    origins: dict[Key, Origin] = {
        (section, key): Origin("default", "default")
        for section, model in SECTIONS.items()
        for key in model.model_fields
    }
    for section, keys in values.items():
        for key in keys if isinstance(keys, dict) else ():
            origins[section, key] = Origin("file", f"{path}:{_line(lines, (section, key))}")
    problems: list[ConfigProblem] = []
    _overlay(values, origins, _from_environment(environment), problems)
    _overlay(values, origins, _from_flags(settings), problems)
    try:
        config = NodeConfig.model_validate(values)
    except ValidationError as error:
        problems.extend(
            _problem(detail["loc"], detail, path=path, lines=lines, origins=origins)
            for detail in error.errors(include_url=False)
        )
        raise BadConfig(problems) from None
    for section, key, expected in conflicts(config):
        value = getattr(getattr(config, section), key)
        place = _place((section, key), path=path, lines=lines, origins=origins)
        problems.append(ConfigProblem(place, f"{section}.{key} = {toml_value(value)}", expected))
    if problems:
        raise BadConfig(problems)
    return ResolvedConfig(config, origins)


def render_config(config: NodeConfig) -> str:
    """Return the text of an `omninode.toml`, with a comment above every key."""
    pieces = [_HEAD]
    for name, model in SECTIONS.items():
        section = getattr(config, name)
        pieces.append(f"\n{_comment(_first_line(model.__doc__))}[{name}]\n")
        for key, field in model.model_fields.items():
            default = toml_value(field.get_default(call_default_factory=True))
            bounds = _bounds_text(field)
            facts = f"Default {default}" + (f", {bounds}." if bounds else ".")
            pieces.append(f"\n{_comment(f'{field.description} {facts}')}")
            pieces.append(f"{key} = {toml_value(getattr(section, key))}\n")
    return "".join(pieces)


def toml_value(value: object) -> str:
    """Return a configuration value (text, integer, truth, list or table of texts) as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(_escape(character) for character in value)
        return f'"{escaped}"'
    if isinstance(value, list):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    return str(value)


def _escape(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if character.isprintable():
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _comment(text: str) -> str:
    return "".join(f"# {line}\n" for line in textwrap.wrap(text, COMMENT_WIDTH))


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: larger than {FILE_BYTES_MAX} bytes")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration at {path}",
            hint="create it with `omninode init`, or name another home with --home",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


def _parse(text: str, path: str) -> tuple[dict[str, Any], dict[Key, int]]:
    """Return the parsed file, and the line of each section (empty key) and key."""
    try:
        return tomllib.loads(text), _scan_lines(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _SYNTAX_PLACE.search(message)
        line = place.group(1) if place else str(text.count("\n") + 1)
        what = _SYNTAX_PLACE.sub("", message).replace("(at end of document)", "").strip()
        raise BadConfig([ConfigProblem(f"{path}:{line}", "", f"not valid TOML: {what}")]) from None


def _scan_lines(text: str) -> dict[Key, int]:
    lines: dict[Key, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _SECTION_LINE.match(line):
            section, _, rest = header.group(1).partition(".")
            lines.setdefault((section, ""), number)
            if rest:
                lines.setdefault((section, rest.partition(".")[0]), number)
        elif entry := _KEY_LINE.match(line):
            first, _, rest = entry.group(1).partition(".")
            place = (section, first) if section else (first, rest.partition(".")[0])
            lines.setdefault(place, number)
    return lines


def _place(key: Key, *, path: str, lines: Mapping[Key, int], origins: Mapping[Key, Origin]) -> str:
    origin = origins.get(key)
    if origin is None or origin.kind == "default":
        return f"{path}:{_line(lines, key)}"
    return origin.place


def _line(lines: Mapping[Key, int], place: Key) -> int:
    return lines.get(place) or lines.get((place[0], "")) or 1


Overrides = Iterable[tuple[str, str, str, Origin]]
"""Section, key, text of the value, origin."""


def _from_environment(environment: Mapping[str, str]) -> Overrides:
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            yield section, key, environment[name], Origin("environment", f"environment {name}")


def _from_flags(settings: Sequence[str]) -> Overrides:
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot):
            raise ConfigError(f"--set {setting}: expected SECTION.KEY=VALUE, such as rpc.port=9000")
        yield section.strip(), key.strip(), text.strip(), Origin("flag", f"flag --set {name}")


def _overlay(
    values: dict[str, Any],
    origins: dict[Key, Origin],
    overrides: Overrides,
    problems: list[ConfigProblem],
) -> None:
    for section, key, text, origin in overrides:
        model = SECTIONS.get(section)
        if model is None or key not in model.model_fields:
            problems.append(_unknown(section, key, origin.place))
            continue
        table = values.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _value_of(text, model.model_fields[key])
            origins[section, key] = origin


def _value_of(text: str, field: FieldInfo) -> object:
    """Read a text as its key's type; one that can not be read so stays text and fails later."""
    kind = get_origin(field.annotation) or field.annotation
    if kind is int and _INTEGER.fullmatch(text):
        return int(text)
    if kind is bool and text in _TRUTHS:
        return _TRUTHS[text]
    if kind is list or kind is dict:
        if text.startswith(("[", "{")):
            try:
                return tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                return text
        items = [item.strip() for item in text.split(",") if item.strip()]
        if kind is list:
            return items
        pairs = [item.partition("=") for item in items]
        return {name.strip(): value.strip() for name, _, value in pairs}
    return text


def _unknown(section: str, key: str, place: str) -> ConfigProblem:
    model = SECTIONS.get(section)
    if model is None:
        return ConfigProblem(
            place, f"[{section}]", f"unknown section{_nearest(section, list(SECTIONS))}"
        )
    return ConfigProblem(
        place, f"{section}.{key}", f"unknown key{_nearest(key, list(model.model_fields))}"
    )


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f", did you mean {near[0]}?"
    return f"; expected one of {', '.join(known)}" if known else "; this section has no keys yet"


def _problem(
    location: tuple[int | str, ...],
    detail: Mapping[str, Any],
    *,
    path: str,
    lines: Mapping[Key, int],
    origins: Mapping[Key, Origin],
) -> ConfigProblem:
    section = str(location[0]) if location else ""
    key = str(location[1]) if len(location) > 1 else ""
    place = _place((section, key), path=path, lines=lines, origins=origins)
    if section not in SECTIONS or (key and key not in SECTIONS[section].model_fields):
        return _unknown(section, key, place)
    if not key:
        wrong_type = detail["type"] in {"model_type", "model_attributes_type", "dict_type"}
        expected = f"expected a section [{section}]" if wrong_type else _plain(detail)
        return ConfigProblem(place, section, expected)
    name = f"{section}.{key}" + "".join(f"[{item}]" for item in location[2:])
    shown = toml_value(detail["input"])
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    expected = _expectation(SECTIONS[section].model_fields[key], detail, inside=len(location) > 2)
    return ConfigProblem(place, f"{name} = {shown}", expected)


def _expectation(field: FieldInfo, detail: Mapping[str, Any], *, inside: bool) -> str:
    """Say what was expected, from type and bounds rather than from the check that failed."""
    kind = get_origin(field.annotation) or field.annotation
    if detail["type"] == "literal_error":
        return f"expected {detail['ctx']['expected']}"
    if detail["type"] == "string_pattern_mismatch":
        return f"expected a text like this: {field.description}"
    if not inside and kind is int:
        return f"expected an integer {_bounds_text(field)}".strip()
    if not inside and kind is list and detail["type"] == "list_type":
        return "expected a list of texts"
    if detail["type"] == "string_type":
        return "expected a text"
    if not inside and kind is bool:
        return "expected true or false"
    return _plain(detail)


def _plain(detail: Mapping[str, Any]) -> str:
    message: str = detail["msg"]
    return message.removeprefix("Value error, ")


def _bounds_text(field: FieldInfo) -> str:
    low = next((item.ge for item in field.metadata if hasattr(item, "ge")), None)
    high = next((item.le for item in field.metadata if hasattr(item, "le")), None)
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low}"
    return f"from {low} to {high}"
