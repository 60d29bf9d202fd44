"""The settlement chain as commands see it: through the node, with the terms of its genesis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from omninode.errors import UserError
from omninode.node.cli.waiting import (
    WAIT_DEADLINE_S,
    is_silent,
    patient,
    tell_silence,
    wait_until,
)

if TYPE_CHECKING:
    from omninode.crypto import SigningKey
    from omninode.node.cli.steps import Tell
    from omninode.node.client import RpcClient
    from omninode.node.funds.chain import Ask, SettlementChain
    from omninode.node.funds.terms import AssetTerms, SettlementTerms

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
        UserError: `off_grid`: finer than the asset has units; or `wrong_amount`: too large.
    """
    from omninode.dex.decimals import OffGrid, parse_units
    from omninode.errors import Malformed

    try:
        return parse_units(amount, asset.decimals)
    except OffGrid as error:
        hint = f"{asset.name} has {asset.decimals}"
        raise UserError(error.reason, str(error), hint=hint) from None
    except Malformed as error:
        hint = "no account has so much: ask for less"
        raise UserError("wrong_amount", str(error), hint=hint) from None


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
    from omninode.node.funds.limits import DEPOSIT_GAS
    from omninode.node.funds.moving import approve_if_needed, send_deposit
    from omninode.node.funds.wallet import Wallet

    terms = read_terms(node)
    asset, token = terms.token_of(asset_name)
    units = parse_amount(amount, asset)
    terms.check_receiver(account)
    chain = SettlementChain(patient(passed_on(node), tell))
    wallet = Wallet(key, chain.ask, chain_id=terms.chain_id, receipt_deadline_s=WAIT_DEADLINE_S)
    await check_contract(chain, terms)
    await check_tokens(chain, key.address, asset, token, units)
    await check_coins(chain, key.address, wei=(await wallet.fees()).max_fee * DEPOSIT_GAS)
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
        await _until_credited(node, terms, document, tell)
        document["state"] = "credited"
    return document


async def check_tokens(
    chain: SettlementChain, address: bytes, asset: AssetTerms, token: bytes, units: int
) -> None:
    """Refuse early what can not be paid.

    Raises:
        UserError: `insufficient_balance`.
    """
    from omninode.crypto import checksum_address
    from omninode.dex.decimals import format_units
    from omninode.node.funds.calls import BALANCE_OF

    owned = await chain.read(token, BALANCE_OF, address)
    if owned < units:
        raise UserError(
            "insufficient_balance",
            f"{checksum_address(address)} has {format_units(owned, asset.decimals)} {asset.name} on"
            f" the settlement chain, not {format_units(units, asset.decimals)}",
            hint="deposit less, or send tokens to it first",
        )


async def check_coins(chain: SettlementChain, address: bytes, *, wei: int = 1) -> None:
    """Refuse an account that can not pay for gas.

    Args:
        chain: The chain.
        address: Whose coins.
        wei: How many it needs at least.

    Raises:
        UserError: `no_coins`.
    """
    from omninode.crypto import checksum_address
    from omninode.dex.decimals import DECIMALS_MAX, format_units

    owned = await chain.coins(address)
    if owned < wei:
        who = checksum_address(address)
        has = f"only {format_units(owned, DECIMALS_MAX)}" if owned else "no"
        raise UserError(
            "no_coins",
            f"{who} has {has} coins on the settlement chain to pay for gas",
            hint=f"send some coins to {who}"
            + (f": it needs {format_units(wei, DECIMALS_MAX)}" if wei > 1 else ""),
        )


def check_withdrawal(
    node: RpcClient, address: str, subaccount: int, asset_name: str, amount: str, recipient: str
) -> None:
    """Refuse a withdrawal that the exchange would reject, before anything is signed.

    Raises:
        UserError: Unknown asset, no such amount, nobody's address, or not so much free.
    """
    from omninode.crypto import parse_address
    from omninode.dex.decimals import format_units, parse_units

    terms = read_terms(node)
    asset, _ = terms.token_of(asset_name)
    units = parse_amount(amount, asset)
    terms.check_receiver(parse_address(recipient))
    who = f"{address}/{subaccount}"
    shown: Document = node.call("omni_getAccount", {"address": who})
    free = sum(
        parse_units(balance["free"], asset.decimals)
        for part in shown["subaccounts"]
        for balance in part["balances"]
        if balance["asset"] == asset.name
    )
    if free < units:
        raise UserError(
            "insufficient_balance",
            f"{who} has {format_units(free, asset.decimals)} {asset.name} free, not {amount}",
            hint="ask for less, or see `omninode account show`: orders hold funds too",
        )


async def _until_credited(
    node: RpcClient, terms: SettlementTerms, document: Document, tell: Tell
) -> None:
    from omninode.node.funds.chain import SettlementChain

    index, block = document["deposit"], document["block"]
    params = {"address": document["address"].partition("/")[0], "limit": 1}
    chain = SettlementChain(passed_on(node))

    async def is_credited() -> bool:
        if int(node.call("omni_getDeposits", params)["credited_count"]) > index:
            return True
        try:
            behind = (await chain.newest()).number - block
        except UserError as error:
            if not is_silent(error):
                raise
            tell_silence(tell)
            return False
        tell(f"deposit {index}: {min(behind, terms.confirmations)} of {terms.confirmations} blocks")
        return False

    await wait_until(
        is_credited,
        f"deposit {index} is in block {block} of the settlement chain, but not credited yet",
        hint="`omninode account show` tells when it is; it needs nothing more from you",
    )


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
    chain = SettlementChain(patient(passed_on(node), tell))
    await check_contract(chain, terms)
    await check_coins(chain, key.address)
    proof: Document = {}

    async def is_provable() -> bool:
        nonlocal proof
        try:
            proof = node.call("omni_getWithdrawalProof", {"id": index})
        except UserError as error:
            if is_silent(error):
                tell_silence(tell)
                return False
            if error.reason not in {"not_checkpointed", "catching_up"}:
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

    wallet = Wallet(key, chain.ask, chain_id=terms.chain_id, receipt_deadline_s=WAIT_DEADLINE_S)
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
