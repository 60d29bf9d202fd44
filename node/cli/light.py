"""`omninode verify --checkpoint`: believe a genesis file and signatures, and nobody else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from omninode.errors import PeerFault, UserError
from omninode.node.cli.endpoint import DEVNET_FIRST_NODE, connect, is_devnet
from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.invocation import current
from omninode.node.cli.output import print_fields
from omninode.node.cli.steps import Tell, shown_steps
from omninode.node.home import Home

if TYPE_CHECKING:
    from omninode.dex.bridge.checkpoints import Checkpoint
    from omninode.node.client import RpcClient
    from omninode.node.light_client import LightClient

_NO_CHECKPOINT = ("unknown_checkpoint", "no_settlement")


def follow(rpc: str | None, genesis: Path | None) -> dict[str, Any]:
    """Follow the ends of epochs to the newest, then check the newest checkpoint.

    Raises:
        ConfigError: There is no genesis to start from, or it is wrong.
        CommandFailed: The node shows something that its signatures do not prove.
    """
    from omninode.node.genesis_file import read_genesis
    from omninode.node.light_client import LightClient

    client = LightClient(read_genesis(genesis or _genesis_path()))
    with connect(rpc) as node, shown_steps() as tell:
        try:
            epochs = _follow(client, node, tell)
            checkpoint = _checkpoint(client, node)
        except PeerFault as fault:
            failed = CommandFailed(
                fault.reason,
                f"the node shows what nobody vouches for: {fault}",
                document={"ok": False, "reason": fault.reason},
            )
            failed.hint = "ask another node with --rpc, and compare the genesis file"
            raise failed from fault
    return _document(client, epochs, checkpoint)


def show(document: dict[str, Any]) -> None:
    """Print what was proven."""
    checkpoint = document["checkpoint"]
    print_fields(
        {
            "epoch": f"{document['epoch']}, after {document['epochs']} proofs",
            "validators": f"{document['validators']} with power {document['power']}",
            "sealed": "nothing yet"
            if document["height"] is None
            else f"height {document['height']}, block {document['block_hash']}",
            "checkpoint": "none yet"
            if checkpoint is None
            else f"{checkpoint['number']} of height {checkpoint['height']}, "
            f"state root {checkpoint['state_root']}",
        }
    )


def _genesis_path() -> Path:
    home = current().home
    if is_devnet(home):
        home = Home(home.path / DEVNET_FIRST_NODE)
    return home.genesis


def _follow(client: LightClient, node: RpcClient, tell: Tell) -> int:
    """Take page after page of proofs; return how many there were."""
    count = 0
    following: int | None = client.validators.epoch
    while following is not None:
        page = node.call("omni_getEpochs", {"from": following})
        for epoch in page["epochs"]:
            try:
                data = bytes.fromhex(epoch["proof"][2:])
            except ValueError as error:
                raise PeerFault("bad_epoch_proof", str(error)) from None
            client.follow(data)
            count += 1
            tell(f"epoch {client.validators.epoch}")
        following = page["next"] if page["epochs"] else None
    return count


def _checkpoint(client: LightClient, node: RpcClient) -> Checkpoint | None:
    try:
        document = node.call("omni_getCheckpoint")
    except UserError as error:
        if error.reason in _NO_CHECKPOINT:
            return None
        raise
    return client.check_checkpoint(document)


def _document(client: LightClient, epochs: int, checkpoint: Checkpoint | None) -> dict[str, Any]:
    from omninode.dex.documents import checkpoint_document

    newest, validators = client.newest, client.validators
    return {
        "ok": True,
        "reason": None,
        "epoch": validators.epoch,
        "epochs": epochs,
        "validators": len(validators.validators),
        "power": validators.total_power,
        "height": None if newest is None else newest.header.height,
        "block_hash": None if newest is None else "0x" + newest.header.hash.hex(),
        "state_root": None if newest is None else "0x" + newest.seal.state_root.hex(),
        "checkpoint": None if checkpoint is None else checkpoint_document(checkpoint),
    }
