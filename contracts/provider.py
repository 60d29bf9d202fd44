"""web3 on trio: its high-level calls over our own bounded endpoints.

web3's HTTP providers need asyncio and retry on their own; this one leaves transport, bounds and
errors to `endpoint`. What web3 makes of a strange answer may raise anything of a known set, which
`judged` turns into errors of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from eth_abi.exceptions import DecodingError

from omninode.contracts.abi import SettlementAbi
from omninode.contracts.endpoint import Endpoint
from omninode.contracts.failures import EndpointFailure
from omninode.contracts.limits import ERROR_CHARS_MAX
from omninode.contracts.web3_library import web3
from omninode.crypto import checksum_address
from omninode.errors import EndpointError

_REVERTED: Final = 3
"""The code of a reverted call in the Ethereum JSON-RPC specification."""


class EndpointProvider(web3.providers.async_base.AsyncJSONBaseProvider):
    """Hands web3's requests to one endpoint.

    Args:
        endpoint: Where to.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    async def make_request(self, method: Any, params: Any) -> Any:  # noqa: ANN401 - web3's types
        """Ask the endpoint; its errors become the error responses that web3 expects."""
        # web3's own JSON knows its byte types; what is asked is then plain JSON.
        request = json.loads(self.encode_rpc_request(method, params))
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
        try:
            answer["result"] = await self._endpoint.call(method, request["params"])
        except EndpointError as error:
            answer["error"] = {"code": error.code, "message": str(error)}
            if error.data is not None:
                answer["error"]["data"] = error.data
        return answer

    async def is_connected(self, show_traceback: bool = False) -> bool:  # noqa: ARG002, FBT001, FBT002 - web3's signature
        """Whether to try at all; a failure shows in the call itself."""
        return True


@contextmanager
def judged(name: str) -> Iterator[None]:
    """Turn what web3 raises over an answer into `EndpointError` or `EndpointFailure`."""
    errors = web3.exceptions
    try:
        yield
    except errors.ContractLogicError as error:
        data = error.data if isinstance(error.data, str) else None
        raise EndpointError(_REVERTED, str(error.message)[:ERROR_CHARS_MAX], data) from None
    except errors.Web3RPCError as error:
        detail = (error.rpc_response or {}).get("error")
        code = detail.get("code") if isinstance(detail, dict) else None
        number = code if isinstance(code, int) else -32603
        raise EndpointError(number, str(error.message)[:ERROR_CHARS_MAX]) from None
    except (
        errors.Web3Exception,
        DecodingError,
        AttributeError,
        LookupError,
        OverflowError,
        TypeError,
        ValueError,
    ) as error:
        what = f"{name}: a strange answer ({type(error).__name__}: {error})"
        raise EndpointFailure(what[:ERROR_CHARS_MAX]) from None


class ContractReader:
    """Reads of the settlement contract and receipts, through one endpoint.

    Args:
        endpoint: Whom to ask.
        abi: The contract.
    """

    def __init__(self, endpoint: Endpoint, abi: SettlementAbi) -> None:
        self._name = endpoint.name
        self._web3 = web3.AsyncWeb3(EndpointProvider(endpoint), middleware=[])
        self._contract = self._web3.eth.contract(
            address=web3.Web3.to_checksum_address(abi.address), abi=abi.json
        )

    async def genesis_hash(self) -> bytes:
        """Return the genesis hash that the contract is for.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            return bytes(await self._contract.functions.genesisHash().call())

    async def is_token(self, token: bytes) -> bool:
        """Whether the contract takes this token.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            address = web3.Web3.to_checksum_address(checksum_address(token))
            return bool(await self._contract.functions.isToken(address).call())

    async def tokens(self) -> tuple[bytes, ...]:
        """Return all tokens that the contract takes.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            addresses = await self._contract.functions.tokens().call()
            return tuple(bytes.fromhex(address[2:]) for address in addresses)

    async def validator_set(self) -> tuple[int, bytes]:
        """Return the epoch of the validators that the contract trusts, and the set's hash.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            epoch = await self._contract.functions.epoch().call()
            return int(epoch), bytes(await self._contract.functions.validatorSetHash().call())

    async def stake_token(self) -> bytes:
        """Return the token that is staked; zeros if there is no staking.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            return bytes.fromhex((await self._contract.functions.stakeToken().call())[2:])

    async def stake_checkpoint(self, owner: bytes) -> int:
        """Return the number of the checkpoint that proved an owner's stake last; 0 if none did.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            address = web3.Web3.to_checksum_address(checksum_address(owner))
            return int(await self._contract.functions.stakeCheckpoint(address).call())

    async def receipt_status(self, transaction_hash: bytes) -> int | None:
        """Return 1 if a transaction is in a block and succeeded, 0 if it failed, else `None`.

        Raises:
            ChainError: The endpoint failed or refused.
        """
        with judged(self._name):
            try:
                found = await self._web3.eth.get_transaction_receipt(cast("Any", transaction_hash))
            except web3.exceptions.TransactionNotFound:
                return None
            return 1 if int(found["status"]) == 1 else 0
