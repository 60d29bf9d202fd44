from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from omninode.errors import ConfigError, StorageFault, UserError
from omninode.node.home import Home, default_home

HOLD = """
import sys, time
from pathlib import Path
from omninode.node.home import Home
with Home(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_the_lock_holds_the_process_id_and_leaves_an_empty_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked():
        assert (tmp_path / "omninode.lock").read_text() == f"{os.getpid()}\n"
        assert home.lock_holder() == os.getpid()
    assert home.lock_holder() is None
    with home.locked():
        pass


def test_a_second_process_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    home = Home(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "locked\n"
        expected = pytest.raises(UserError, match=f"process {holder.pid} already uses")
        with expected as failure, home.locked():
            pass
        assert failure.value.reason == "home_locked"
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    # The kernel freed the lock of the killed process; its id in the file means nothing.
    assert home.lock_holder() == holder.pid
    with home.locked():
        assert home.lock_holder() == os.getpid()


def test_a_lock_that_can_not_be_made_is_a_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match=r"omninode\.lock"), Home(tmp_path / "none").locked():
        pass


def test_a_folder_without_configuration_is_no_home(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no node in") as failure:
        Home(tmp_path).require()
    assert "omninode init" in failure.value.hint
    (tmp_path / "omninode.toml").touch()
    Home(tmp_path).require()


def test_the_guard_and_the_keys_lie_outside_of_the_data(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for path in (home.signer_guard, home.validator_keystore, home.node_key, home.keys):
        assert home.data not in path.parents
    for path in (home.database, home.write_ahead_log):
        assert home.data in path.parents


def test_the_default_home() -> None:
    assert default_home({"OMNINODE_HOME": "/x/y"}) == Path("/x/y")
    assert default_home({}) == Path.home() / ".omninode"
