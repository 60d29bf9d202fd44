"""Writes docs/reference/rpc.md from the methods that are served.

    python -m omninode.node.rpc.reference > docs/reference/rpc.md

A test compares the file with what this writes.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from omninode.node.rpc.catalogue import METHODS
from omninode.node.rpc.errors import CODES
from omninode.node.rpc.openrpc import describe, describe_params
from omninode.node.rpc.reasons import MEANINGS, REASONS
from omninode.node.rpc.registry import Method

Document = dict[str, Any]

_INTRODUCTION: Final = """\
# JSON-RPC reference

Generated from the code by `python -m omninode.node.rpc.reference`; `rpc.discover` returns the same
as an OpenRPC document.

JSON-RPC 2.0 on one port (`rpc.port`): HTTP `POST /` with `Content-Type: application/json`, or a
WebSocket to `GET /`. Parameters go by name or by position; `"params": null` says that there are
none. Batches, notifications and error codes are those of the specification; an id is echoed as it
came. Amounts, prices and sizes are decimal text in human units, hashes 0x hex, times milliseconds
since the epoch; every answer that reads the state says for which `height`.

An `address` of a list, without more, stands for all subaccounts of the account; with `/N` behind
it, also `/0`, for that subaccount alone. What is about whole accounts refuses `/N`.

```
curl -s http://127.0.0.1:36651/ -H 'Content-Type: application/json' \\
  -d '{"jsonrpc": "2.0", "id": 1, "method": "omni_getOrderBook",
       "params": {"market": "BTC-USDC", "depth": 5}}'
```

A request costs its client (one IP address) one token a call, or what the method's *cost* says, and
at least one for each started 16 KiB. Tokens come back at `rpc.requests_per_second`, up to
`rpc.requests_burst`. Who has none left gets HTTP 429 with `Retry-After`, on a WebSocket the same
error as an answer.

`GET /health` answers 200 when the node is in sync and committing, else 503 with the reasons.

## Streams

`omni_subscribe` on a WebSocket answers with a snapshot and its `height`; what later blocks bring
follows as notifications `omni_subscription` with `subscription`, `channel`, `height` and a
`sequence` that counts from 1 without gaps. Book updates that wait for a slow reader become one with
the newest sizes; nothing else is dropped. A client that falls too far behind is closed with code
4008, one whose node stops with 1001. The server pings every 15 s.

## The settlement chain

`eth_*`, `net_*` and `web3_*` go to the node's endpoint of the settlement chain and come back as
they are, errors too, so that a wallet or a library of an EVM chain can use the node as its
endpoint. What is listed below passes, in single calls and in batches, with parameters by position;
nothing that signs with an endpoint's keys, and no filters and subscriptions. An endpoint need not
have all of it: one that lacks a method answers -32601 itself, as the dev chain of `omninode devnet`
does to `eth_createAccessList`, `eth_getProof` and the methods about uncles.

## Errors

An error has `data.reason`, a stable word to program against, and `data.hint`, what to do next. A
reason that is not in this list has the code -32000. `internal_error` has `data.error_id`, under
which the node's log tells more.

"""

_RESULTS: Final = """
## Refused in a block

A transaction that was taken may still be refused when its turn comes in a block. It is final then
like any other, with `code` `rejected` and a `reason`: its nonce is used, and no funds or orders
have moved. The actions of a batch are judged one by one, each with its own `reason` in `items`.
`attest_deposits` and `sign_checkpoint` are what validators say; their nodes make them.

"""


def write_reference() -> str:
    """Return the whole page."""
    document = describe(METHODS)
    parts = [_INTRODUCTION, _errors(), _RESULTS, _reasons(), "\n## Methods\n\n"]
    own = {name: entry for name, entry in METHODS.items() if not entry.forwards}
    parts += [f"- [`{name}`](#{_anchor(name)}): {m.summary}\n" for name, m in own.items()]
    parts.append("- [Methods of the settlement chain](#methods-of-the-settlement-chain)\n")
    schemas = {entry["name"]: entry["result"]["schema"] for entry in document["methods"]}
    parts += [_method(entry, schemas[name]) for name, entry in own.items()]
    parts.append(_forwarded())
    parts.append("\n## Results\n")
    parts += [_schema(name, s) for name, s in sorted(document["components"]["schemas"].items())]
    return "".join(parts)


def _anchor(name: str) -> str:
    return name.lower().replace(".", "")


def _errors() -> str:
    by_code: dict[int, list[str]] = {}
    for reason, code in CODES.items():
        by_code.setdefault(code, []).append(f"`{reason}`")
    lines = ["| code | reasons |\n| --- | --- |\n"]
    lines += [f"| {code} | {', '.join(by_code[code])} |\n" for code in sorted(by_code)]
    return "".join(lines)


def _reasons() -> str:
    lines = ["| action | reasons |\n| --- | --- |\n"]
    for action, reasons in REASONS.items():
        lines.append(f"| `{action}` | {', '.join(f'`{reason}`' for reason in reasons)} |\n")
    lines.append("\n| reason | what it says |\n| --- | --- |\n")
    lines += [f"| `{reason}` | {meaning} |\n" for reason, meaning in MEANINGS.items()]
    return "".join(lines)


def _forwarded() -> str:
    entries = [entry for entry in METHODS.values() if entry.forwards]
    refusals = ", ".join(f"`{reason}`" for reason in entries[0].errors)
    return "".join(
        [
            f"\n### Methods of the settlement chain\n\n{entries[0].description}\n",
            f"Refusals of the node's own: {refusals}.\n\n| method | cost |\n| --- | --- |\n",
            *(f"| `{entry.name}` | {entry.cost} |\n" for entry in entries),
        ]
    )


def _method(entry: Method[Any], result: Document) -> str:
    parts = [f"\n### {entry.name}\n\n{entry.description}\n"]
    notes = [] if entry.cost == 1 else [f"cost {entry.cost}"]
    notes += ["WebSocket only"] if entry.streams else []
    if notes:
        parts.append(f"\n*{', '.join(notes)}*\n")
    params = describe_params(entry)
    if params:
        parts.append("\n| parameter | type | default | |\n| --- | --- | --- | --- |\n")
        parts += [_param(param) for param in params]
    parts.append(f"\nResult: {_type(result)}.")
    if entry.errors:
        parts.append(f" Refusals: {', '.join(f'`{reason}`' for reason in entry.errors)}.")
    return "".join([*parts, "\n"])


def _param(param: Document) -> str:
    schema = param["schema"]
    default = "required" if param["required"] else f"`{_literal(schema.get('default'))}`"
    about = param.get("description", "")
    return f"| `{param['name']}` | {_type(schema)} | {default} | {about} |\n"


def _literal(value: object) -> str:
    return "null" if value is None else str(value)


def _schema(name: str, schema: Document) -> str:
    rows = [
        f"\n### {name}\n\n{schema.get('description', '')}\n\n| member | type |\n| --- | --- |\n"
    ]
    for member, value in schema.get("properties", {}).items():
        rows.append(f"| `{member}` | {_type(value)} |\n")
    return "".join(rows)


def _type(schema: Document) -> str:
    """Write a JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if "minimum" in schema or "maximum" in schema:
        return f"{kind} {schema.get('minimum', '')}…{schema.get('maximum', '')}"
    return str(kind)


if __name__ == "__main__":
    sys.stdout.write(write_reference())
