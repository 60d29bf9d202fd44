"""What a wallet needs of the settlement chain, passed on to the node's endpoint for it.

An explicit list, so that nothing passes that changes an endpoint or signs with its keys. What is on
it is stateless: no filters and no subscriptions, which a library replaces by asking again.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from omninode.node.rpc.context import Context
from omninode.node.rpc.forwarding import REFUSALS
from omninode.node.rpc.limits import FORWARD_TIMEOUT_S
from omninode.node.rpc.ports import Services
from omninode.node.rpc.registry import Method, Params, method

COSTS: Final = {
    "eth_blobBaseFee": 1,
    "eth_blockNumber": 1,
    "eth_call": 5,
    "eth_chainId": 1,
    "eth_createAccessList": 5,
    "eth_estimateGas": 5,
    "eth_feeHistory": 2,
    "eth_gasPrice": 1,
    "eth_getBalance": 1,
    "eth_getBlockByHash": 2,
    "eth_getBlockByNumber": 2,
    "eth_getBlockReceipts": 20,
    "eth_getBlockTransactionCountByHash": 1,
    "eth_getBlockTransactionCountByNumber": 1,
    "eth_getCode": 2,
    "eth_getLogs": 20,
    "eth_getProof": 5,
    "eth_getStorageAt": 1,
    "eth_getTransactionByBlockHashAndIndex": 1,
    "eth_getTransactionByBlockNumberAndIndex": 1,
    "eth_getTransactionByHash": 1,
    "eth_getTransactionCount": 1,
    "eth_getTransactionReceipt": 1,
    "eth_getUncleCountByBlockHash": 1,
    "eth_getUncleCountByBlockNumber": 1,
    "eth_maxPriorityFeePerGas": 1,
    "eth_sendRawTransaction": 5,
    "eth_syncing": 1,
    "net_listening": 1,
    "net_peerCount": 1,
    "net_version": 1,
    "web3_clientVersion": 1,
    "web3_sha3": 1,
}
"""The methods that pass, and what a call costs its client."""


@method("eth_accounts", result=list[str], reads_state=False)
def get_accounts(context: Context[Any], params: Params) -> list[str]:
    """Return no accounts: neither a node nor its endpoint signs for a caller."""
    del context, params
    return []


def _forwarded(name: str, cost: int) -> Method[Any]:
    """Make a method that passes its parameters on; they come by position."""

    async def forward(context: Context[Services], params: Params | list[Any]) -> object:
        """Pass the call on to the settlement chain; result and errors come as they are there."""
        values = params if isinstance(params, list) else []
        return await context.node.forwarding.call(name, values)

    return Method(
        name=name,
        function=forward,
        params=Params,
        result=Any,
        errors=REFUSALS,
        cost=cost,
        # Forwarding has a deadline of its own, and says more when it passes.
        timeout_s=FORWARD_TIMEOUT_S + 1,
        is_async=True,
        reads_state=False,
        streams=False,
        forwards=True,
        by_name=msgspec.json.Decoder(Params),
        by_position=msgspec.json.Decoder(list[Any]),
    )


FORWARDED: Final = tuple(_forwarded(name, cost) for name, cost in COSTS.items())
