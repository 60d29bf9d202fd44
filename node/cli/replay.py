"""`omninode replay`: execute the stored chain again and compare every app hash."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from omninode.node.cli.failures import CommandFailed
from omninode.node.cli.invocation import require_home
from omninode.node.cli.output import emit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omninode.node.home import Home
    from omninode.node.re_execution import Progress, ReplayResult

PLAIN_PROGRESS_BLOCKS = 10_000
"""Without a terminal one line says so after each of these blocks."""

app = typer.Typer()


@app.command()
def replay(
    first: Annotated[int, typer.Option("--from", min=1, help="First height to compare.")] = 1,
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="Last height. Default: the newest.")
    ] = None,
) -> None:
    """Execute a stopped node's blocks again from genesis and compare every app hash."""
    home = require_home()
    with home.locked():
        result = _replay(home, first, last)
    document = result.document()
    if result.mismatch is not None:
        where = f"height {result.mismatch.height}, module {result.mismatch.module}"
        raise CommandFailed(
            "mismatch",
            f"re-execution differs from what is stored at {where}",
            document=document,
        )
    emit(
        document,
        lambda: print(
            f"Blocks {result.first} to {result.last} are right: {result.blocks} blocks and "
            f"{result.transactions} transactions executed from genesis, every app hash equal."
        ),
    )


def _replay(home: Home, first: int, last: int | None) -> ReplayResult:
    from omninode.errors import UserError
    from omninode.node.genesis_file import read_genesis
    from omninode.node.re_execution import replay_chain
    from omninode.storage.chain import ChainStore
    from omninode.storage.database import Database
    from omninode.storage.journal import Journal

    genesis = read_genesis(home.genesis)
    if not home.database.is_dir():
        raise UserError(
            "no_chain", f"no chain in {home.data}", hint="`omninode start` makes or fetches one"
        )
    with Database.open(home.database) as database:
        chain = ChainStore.open(database, Journal(database), genesis_hash=genesis.hash)
        head = chain.head()
        total = last if last is not None else 0 if head is None else head.height
        with _progress(total) as progress:
            return replay_chain(chain, genesis, first=first, last=last, progress=progress)


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """Show progress on stderr: a bar on a terminal, else a line now and then."""
    if not sys.stderr.isatty():
        yield _say_sometimes
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar("blocks", *columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("blocks", total=total)
        yield lambda height: bar.update(task, completed=height)


def _say_sometimes(height: int) -> None:
    if height % PLAIN_PROGRESS_BLOCKS == 0:
        print(f"executed {height} blocks", file=sys.stderr)
