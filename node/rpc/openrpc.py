"""The OpenRPC document, generated from the methods that are served."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import msgspec

from omninode import __version__
from omninode.node.rpc.errors import CODES, REFUSED
from omninode.node.rpc.registry import Method

OPENRPC_VERSION: Final = "1.3.2"
COMMON_ERRORS: Final = ("invalid_params", "internal_error", "rate_limited")
"""What every method may answer."""

Document = dict[str, Any]
Schemas = tuple[dict[object, Document], dict[str, Document]]

_REFERENCE: Final = "#/components/schemas/{name}"


def describe(methods: Mapping[str, Method[Any]]) -> Document:
    """Return the document of these methods."""
    return _describe(tuple(methods.values()))


@cache
def _describe(methods: tuple[Method[Any], ...]) -> Document:
    results, components = _result_schemas(methods)
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {
            "title": "OmniNode JSON-RPC",
            "version": __version__,
            "description": "JSON-RPC 2.0 over HTTP (POST /) and WebSocket (GET /) on one port.",
        },
        "methods": [_method(entry, results[entry.name]) for entry in methods],
        "components": {
            "schemas": components,
            "errors": {reason: _error(reason) for reason in sorted(CODES)},
        },
    }


def _result_schemas(methods: tuple[Method[Any], ...]) -> Schemas:
    schemas, components = msgspec.json.schema_components(
        [entry.result for entry in methods], ref_template=_REFERENCE
    )
    names: dict[object, Document] = {
        entry.name: schema for entry, schema in zip(methods, schemas, strict=True)
    }
    return names, components


def _method(entry: Method[Any], result: Document) -> Document:
    reasons = [*entry.errors, *COMMON_ERRORS]
    if entry.reads_state:
        reasons.append("halted")
    return {
        "name": entry.name,
        "summary": entry.summary,
        "description": entry.description,
        "paramStructure": "by-position" if entry.forwards else "either",
        "params": describe_params(entry),
        "result": {"name": "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{reason}"} for reason in reasons],
        "x-cost": entry.cost,
        "x-websocket-only": entry.streams,
    }


def describe_params(entry: Method[Any]) -> list[Document]:
    """Return the content descriptors of a method's parameters, in their order."""
    if entry.forwards:
        return [{"name": "params", "required": False, "schema": {"type": "array"}}]
    _, components = msgspec.json.schema_components([entry.params], ref_template=_REFERENCE)
    schema = components[entry.params.__name__]
    required = set(schema.get("required", ()))
    descriptors: list[Document] = []
    for name, property_schema in schema["properties"].items():
        descriptor = {"name": name, "required": name in required, "schema": property_schema}
        if "description" in property_schema:
            descriptor["description"] = property_schema["description"]
        descriptors.append(descriptor)
    return descriptors


def _error(reason: str) -> Document:
    return {
        "code": CODES.get(reason, REFUSED),
        "message": reason.replace("_", " "),
        "data": {"reason": reason},
    }
