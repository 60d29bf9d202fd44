"""A small disk for a folder, to be filled; only root can mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from real_network import copy_folder

TMPFS_BYTES: Final = 48 << 20
ROOM_LEFT_BYTES: Final = 128 << 10


@contextmanager
def small_disk(folder: Path, bytes_max: int = TMPFS_BYTES) -> Iterator[None]:
    """Have a folder's content on a small disk of its own."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", f"size={bytes_max}", "tmpfs", str(folder)]
    subprocess.run(mounted, check=True, capture_output=True)
    try:
        copy_folder(aside, folder)
        yield
        shutil.rmtree(aside)
        copy_folder(folder, aside)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()
        aside.rename(folder)


def fill(folder: Path) -> Path:
    """Fill a folder's disk up to a little room; returns the file that does."""
    filler = folder / "filler"
    free = os.statvfs(folder)
    with filler.open("wb") as file, suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - ROOM_LEFT_BYTES)
    return filler
