"""The settlement chain as commands see it: through the node, with the terms of its genesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from omninode.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from omninode.crypto import SigningKey
    from omninode.node.cli.steps import Tell
    from omninode.node.client import RpcClient
    from omninode.node.funds.chain import Ask
    from omninode.node.funds.terms import AssetTerms, SettlementTerms

WAIT_DEADLINE_S: Final = 900.0
"""How long a command waits for confirmations or a checkpoint, on whichever chain."""

POLL_S: Final = 0.25

Document = dict[str, Any]


def passed_on(client: RpcClient) -> Ask:
    """Return how to ask the settlement chain through a node, or at an endpoint itself.

    The command has nothing else to do, so the client may block.
    """

    async def ask(method: str, params: list[Any]) -> Any:  # noqa: ANN401 - any JSON
        return client.call(method, params)

    return ask


def read_terms(node: RpcClient) -> SettlementTerms:
    """Return where the money of a node's network is.

    Raises:
        UserError: The network has no settlement chain, or the node does not answer.
    """
    from omninode.node.funds.terms import settlement_terms

    return settlement_terms(node.call("omni_getGenesis"))


def parse_amount(amount: str, asset: AssetTerms) -> int:
    """Return an amount in base units.

    Raises:
        UserError: Finer than the asset has units, or too large.
    """
    from omninode.dex.decimals import parse_units
    from omninode.errors import Malformed

    try:
        return parse_units(amount, asset.decimals)
    except Malformed as error:
        raise UserError("wrong_amount", str(error)) from None


async def deposit_funds(
    node: RpcClient,
    key: SigningKey,
    asset_name: str,
    amount: str,
    *,
    account: bytes,
    subaccount: int,
    wait: bool,
    tell: Tell,
) -> Document:
    """Deposit tokens, and wait until the exchange has credited them.

    Returns:
        What `account deposit --json` prints.
    """
    from omninode.crypto import checksum_address
    from omninode.node.funds.backing import check_contract
    from omninode.node.funds.chain import SettlementChain
    from omninode.node.funds.moving import approve_if_needed, send_deposit
    from omninode.node.funds.wallet import Wallet

    terms = read_terms(node)
    asset, token = terms.token_of(asset_name)
    units = parse_amount(amount, asset)
    chain = SettlementChain(passed_on(node))
    await check_contract(chain, terms)
    await _check_purse(chain, key.address, asset, token, units)
    wallet = Wallet(key, chain.ask, chain_id=terms.chain_id)
    tell("approving that the contract takes the tokens")
    approval = await approve_if_needed(wallet, chain, token, terms.contract, units)
    tell("depositing")
    mined = await send_deposit(wallet, terms, token, units, account=account, subaccount=subaccount)
    document: Document = {
        "deposit": mined.index,
        "asset": asset.name,
        "amount": amount,
        "address": f"{checksum_address(account)}/{subaccount}",
        "approval": approval,
        "transaction": mined.hash,
        "block": mined.block,
        "state": "deposited",
    }
    if wait:
        await _until_credited(node, chain, terms, document, tell)
        document["state"] = "credited"
    return document


async def _check_purse(
    chain: Any,  # noqa: ANN401 - SettlementChain, which is not loaded for every command
    address: bytes,
    asset: AssetTerms,
    token: bytes,
    units: int,
) -> None:
    """Refuse early what can not be paid."""
    from omninode.crypto import checksum_address
    from omninode.dex.decimals import format_units
    from omninode.node.funds.calls import BALANCE_OF

    who = checksum_address(address)
    owned = await chain.read(token, BALANCE_OF, address)
    if owned < units:
        raise UserError(
            "insufficient_balance",
            f"{who} has {format_units(owned, asset.decimals)} {asset.name} on the settlement chain,"
            f" not {format_units(units, asset.decimals)}",
            hint="deposit less, or send tokens to it first",
        )
    await check_coins(chain.ask, address)


async def check_coins(ask: Ask, address: bytes) -> None:
    """Refuse an account that can not pay for gas.

    Raises:
        UserError: `no_coins`.
    """
    from omninode.crypto import checksum_address

    who = checksum_address(address)
    if int(await ask("eth_getBalance", [who, "latest"]), 16) == 0:
        raise UserError(
            "no_coins",
            f"{who} has no coins on the settlement chain to pay for gas",
            hint=f"send some coins to {who}",
        )


async def _until_credited(
    node: RpcClient,
    chain: Any,  # noqa: ANN401 - as above
    terms: SettlementTerms,
    document: Document,
    tell: Tell,
) -> None:
    index, block = document["deposit"], document["block"]
    params = {"address": document["address"].partition("/")[0], "limit": 1}

    async def is_credited() -> bool:
        if int(node.call("omni_getDeposits", params)["credited_count"]) > index:
            return True
        behind = (await chain.newest()).number - block
        tell(f"deposit {index}: {min(behind, terms.confirmations)} of {terms.confirmations} blocks")
        return False

    await wait_until(
        is_credited,
        f"deposit {index} is in block {block} of the settlement chain, but not credited yet",
        hint="`omninode account show` tells when it is; it needs nothing more from you",
    )


async def wait_until(is_so: Callable[[], Awaitable[bool]], message: str, *, hint: str) -> None:
    """Ask again and again, for as long as a command waits.

    Raises:
        UserError: `timeout`, with this message.
    """
    import trio

    with trio.move_on_after(WAIT_DEADLINE_S):
        while True:
            if await is_so():
                return
            await trio.sleep(POLL_S)
    raise UserError("timeout", message, hint=hint)


async def claim_funds(node: RpcClient, key: SigningKey, index: int, *, tell: Tell) -> Document:
    """Have the contract pay a withdrawal out, once a checkpoint covers it.

    Returns:
        What `account claim --json` prints.
    """
    from omninode.node.funds.backing import check_contract
    from omninode.node.funds.chain import SettlementChain
    from omninode.node.funds.moving import send_claim
    from omninode.node.funds.wallet import Wallet

    terms = read_terms(node)
    chain = SettlementChain(passed_on(node))
    await check_contract(chain, terms)
    await check_coins(chain.ask, key.address)
    proof: Document = {}

    async def is_provable() -> bool:
        nonlocal proof
        try:
            proof = node.call("omni_getWithdrawalProof", {"id": index})
        except UserError as error:
            if error.reason != "not_checkpointed":
                raise
            tell(f"withdrawal {index}: waiting for a checkpoint on the settlement chain")
            return False
        tell(f"withdrawal {index}: claiming")
        return True

    async def read_proof() -> Document:
        await wait_until(
            is_provable,
            f"no checkpoint on the settlement chain covers withdrawal {index} yet",
            hint="the withdrawal is safe: claim it later; `omninode status` tells about settlement",
        )
        return proof

    wallet = Wallet(key, chain.ask, chain_id=terms.chain_id)
    mined = await send_claim(wallet, chain, terms, index, read_proof)
    asset = terms.assets[proof["asset"]]
    return {
        "id": index,
        "asset": asset.name,
        "amount": proof["amount"],
        "recipient": proof["recipient"],
        "transaction": mined.hash,
        "block": mined.block,
        "state": "claimed",
    }


async def find_withdrawal(node: RpcClient, address: str, transaction: str) -> Document:
    """Return the withdrawal that a final transaction asked for.

    Raises:
        UserError: `timeout`: the node does not show it.
    """
    found: Document = {}

    async def is_listed() -> bool:
        nonlocal found
        rows = node.call("omni_getWithdrawals", {"address": address, "limit": 100})["withdrawals"]
        found = next((row for row in rows if row["transaction"] == transaction), {})
        return bool(found)

    await wait_until(
        is_listed,
        f"the transaction {transaction} is final, but the node does not list its withdrawal",
        hint="ask another node, with --rpc",
    )
    return found
