"""A node's home: where each thing lies on disk, and the lock that keeps a second process out.

```
HOME/omninode.toml        configuration
HOME/genesis.json         the network's genesis
HOME/node_key             Ed25519 peer identity, mode 0600
HOME/validator.json       the validator's vote key, an EVM keystore v3
HOME/beacon.json          the validator's beacon key (BLS), a keystore v3 with the same password
HOME/validator.password   their password when `init` had no terminal to ask at, mode 0600
HOME/signer_guard         what the vote key has signed; outlives `omninode reset`
HOME/keys/                keystores of `omninode keys`
HOME/keys/relayer.json    pays the gas of this validator's checkpoints; the vote key's password
HOME/peers.json           addresses of peers, and bans; found again when it is lost
HOME/data/                chain, state and write-ahead log; `omninode reset` removes only this
HOME/omninode.lock        held by the running process, contains its process id
```
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from omninode.errors import ConfigError, StorageFault, UserError

HOME_VARIABLE: Final = "OMNINODE_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one node's home; nothing is read or created by asking for them."""

    path: Path

    @property
    def config(self) -> Path:
        """The configuration."""
        return self.path / "omninode.toml"

    @property
    def genesis(self) -> Path:
        """The network's genesis as JSON."""
        return self.path / "genesis.json"

    @property
    def node_key(self) -> Path:
        """The peer identity's secret."""
        return self.path / "node_key"

    @property
    def validator_keystore(self) -> Path:
        """The vote key's keystore."""
        return self.path / "validator.json"

    @property
    def beacon_keystore(self) -> Path:
        """The beacon key's keystore; it has the vote key's password."""
        return self.path / "beacon.json"

    @property
    def validator_password(self) -> Path:
        """The password of vote key and beacon key, if `init` made it."""
        return self.path / "validator.password"

    @property
    def signer_guard(self) -> Path:
        """What the vote key has signed; outside of `data`, so that no reset removes it."""
        return self.path / "signer_guard"

    @property
    def keys(self) -> Path:
        """Folder of the keystores of `omninode keys`."""
        return self.path / "keys"

    @property
    def relayer_keystore(self) -> Path:
        """The keystore of the account that pays for checkpoints on the settlement chain."""
        return self.keys / "relayer.json"

    @property
    def address_book(self) -> Path:
        """Where peers were reached, and who is banned."""
        return self.path / "peers.json"

    @property
    def data(self) -> Path:
        """Everything that can be had again from peers."""
        return self.path / "data"

    @property
    def database(self) -> Path:
        """The LevelDB folder of chain and state."""
        return self.data / "chain"

    @property
    def snapshots(self) -> Path:
        """The folder of the newest sealed snapshots, ours or copied."""
        return self.data / "snapshots"

    @property
    def write_ahead_log(self) -> Path:
        """The folder of the consensus write-ahead log."""
        return self.data / "wal"

    @property
    def lock_file(self) -> Path:
        """The lock; contains the process id of the running node."""
        return self.path / "omninode.lock"

    def exists(self) -> bool:
        """Whether `init` has written a configuration here."""
        return self.config.is_file()

    def require(self) -> None:
        """Raise unless this is a home.

        Raises:
            ConfigError: There is no `omninode.toml`.
        """
        if not self.exists():
            raise ConfigError(
                f"no node in {self.path}",
                hint="create one with `omninode init`, or name another home with --home",
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home's lock; the kernel frees it with the process, whatever ends that.

        Raises:
            UserError: `home_locked`, another process holds it.
            StorageFault: The lock file can not be opened or written.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageFault(f"{self.lock_file}: {error.strerror}") from None
        try:
            self._take(descriptor)
            try:
                yield
            finally:
                # The file stays: removing it would let a third process lock a file that a second
                # one has already opened.
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self.lock_holder()
            who = f"process {holder}" if holder is not None else "another process"
            raise UserError(
                "home_locked",
                f"{who} already uses {self.path}",
                hint="stop it first, or give this node another --home",
            ) from None
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StorageFault(f"{self.lock_file}: {error.strerror}") from None

    def lock_holder(self) -> int | None:
        """Return the process id in the lock file, if any; it may be of a process that died."""
        try:
            text = self.lock_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return int(text) if text.isdigit() else None


def default_home(environment: Mapping[str, str]) -> Path:
    """Return `$OMNINODE_HOME`, else `~/.omninode`."""
    chosen = environment.get(HOME_VARIABLE)
    return Path(chosen).expanduser() if chosen else Path.home() / ".omninode"
