from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "cli.md"


def test_the_page_of_the_command_line_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "omninode.node.cli.reference"],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "OMNINODE_HOME"},
    )
    hint = "write it anew: python -m omninode.node.cli.reference > docs/reference/cli.md"
    assert done.stdout == PAGE.read_text(), hint
