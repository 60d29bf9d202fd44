"""The error tree: the type of an error says who is to blame and how the program reacts.

```
OmniNodeError
├── Malformed          bytes or text that do not decode; the boundary that read them turns it into
│                      one of the next two
├── PeerFault          a peer sent rubbish: lower its score, then disconnect, then ban a while
├── UserError          the caller asked for the impossible: answer with `reason`, change nothing
│   ├── Rejected       well formed, but not allowed by the exchange's state or rules
│   └── ConfigError    wrong usage or configuration: exit code 2
├── ChainError         the settlement chain misbehaves or cannot be reached; may be retried
│   └── EndpointError  its endpoint answered with a JSON-RPC error
├── StorageFault       the disk failed or is full: stop the node, keep what is on it
└── BrokenInvariant    our own defect: stop the node at once; it alone may show a traceback
```

`reason` is always one stable, machine-readable word; the message is for people and says what to do
next.
"""

from __future__ import annotations


class OmniNodeError(Exception):
    """Base of every error that this program raises on purpose."""


class Malformed(OmniNodeError):
    """Input that is not the canonical encoding of what it claims to be."""


class PeerFault(OmniNodeError):
    """A peer broke the protocol.

    Args:
        reason: One stable word for metrics and `omninode peers`.
        message: What happened, for people.
        penalty: Points taken from the peer's score.
    """

    def __init__(self, reason: str, message: str = "", *, penalty: int = 10) -> None:
        super().__init__(message or reason)
        self.reason = reason
        self.penalty = penalty


class UserError(OmniNodeError):
    """A request that can not be served as asked; nothing was changed.

    Args:
        reason: One stable machine-readable word (`data.reason` of JSON-RPC).
        message: What was wrong, with the value, for people.
        hint: What to do next.
    """

    def __init__(self, reason: str, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or reason.replace("_", " "))
        self.reason = reason
        self.hint = hint


class Rejected(UserError):
    """The exchange refuses an action; the state is as it was before."""


class ConfigError(UserError):
    """Wrong usage or configuration; the program exits with code 2."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__("bad_configuration", message, hint=hint)


class ChainError(OmniNodeError):
    """The settlement chain or its endpoint failed.

    Args:
        message: What failed.
        retryable: Whether the same call may succeed later.
    """

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class EndpointError(ChainError):
    """The endpoint of the settlement chain answered with a JSON-RPC error; it is there and well.

    Args:
        code: The error's number, as the endpoint gave it.
        message: Its message.
        data: Its data (a revert's bytes, for example), or `None`.
    """

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message, retryable=False)
        self.code = code
        self.data = data


class StorageFault(OmniNodeError):
    """The disk can not be read or written; the node stops and says why."""


class BrokenInvariant(OmniNodeError):
    """Something that must never happen did; continuing could do harm."""
