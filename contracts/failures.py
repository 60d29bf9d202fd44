"""How an endpoint fails; its own errors are `errors.EndpointError`."""

from __future__ import annotations

from omninode.errors import ChainError


class EndpointFailure(ChainError):
    """The endpoint did not answer, or not with an answer.

    Args:
        message: What happened, with the endpoint's name.
        too_long: Whether it had more to say than is listened to; asking for less may help.
    """

    def __init__(self, message: str, *, too_long: bool = False) -> None:
        super().__init__(message, retryable=True)
        self.too_long = too_long
