"""Becomes a program that the kernel kills when the process that started it dies.

Run as a script, `tether.py PARENT_PROCESS_ID PROGRAM ARGUMENTS…`, so that nothing of ours runs
between `fork` and `exec` in a process with threads. The tie survives `exec`; it is to the *thread*
that started the process, so start it from a thread that lives as long as the devnet (the main one).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Tie this process to its parent, then become the program."""
    parent = int(sys.argv[1])
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit("error: prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        sys.exit(1)  # the parent died before the tie was made
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - an argument list of our own, no shell


if __name__ == "__main__":
    main()
