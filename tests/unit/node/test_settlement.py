"""Where the settlement part comes from: genesis, configuration and keys of a home."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from omninode.crypto import SigningKey, checksum_address
from omninode.dex.genesis import Genesis, GenesisSettlement
from omninode.errors import ConfigError
from omninode.node.config import SettlementSection
from omninode.node.home import Home
from omninode.node.home_setup import HomeIdentity, create_keys
from omninode.node.keys.keystore import keystore_address
from omninode.node.keys.node_keys import NodeKeys, load_node_keys
from omninode.node.local_genesis import local_genesis
from omninode.node.settlement import check_chain

VOTER = SigningKey(b"\x11" * 32)


def genesis(chain_id: int, *, settled: bool = True) -> Genesis:
    identity = HomeIdentity(VOTER.address, VOTER.public_key, "12D3KooWtest")
    made = local_genesis(
        identity, moniker="node", chain_id="test", owner=VOTER.address, time_ms=1_700_000_000_000
    )
    terms = GenesisSettlement(contract=checksum_address(b"\xc0" * 20), start_block=1)
    return msgspec.structs.replace(
        made, settlement_chain_id=chain_id, settlement=terms if settled else None
    )


@pytest.mark.parametrize("chain_id", [1337, 31337])
def test_a_developers_chain_is_refused_unless_it_is_allowed(chain_id: int) -> None:
    with pytest.raises(ConfigError, match="developer"):
        check_chain(genesis(chain_id), SettlementSection())
    check_chain(genesis(chain_id), SettlementSection(allow_dev_chain=True))
    check_chain(genesis(chain_id, settled=False), SettlementSection())
    check_chain(genesis(1), SettlementSection())


def test_every_home_has_a_relayer_that_opens_with_the_validators_password(tmp_path: Path) -> None:
    home = Home(tmp_path)
    identity = create_keys(home, password=None, light=True)
    assert keystore_address(home.relayer_keystore) == identity.relayer
    assert identity.relayer != identity.address
    keys = load_node_keys(home, validator=True, relayer=True)
    assert keys.relayer is not None
    assert keys.relayer.address == identity.relayer
    assert load_node_keys(home, validator=True).relayer is None
    assert load_node_keys(home, validator=False, relayer=True).relayer is None


def test_an_older_home_gets_a_relayer_and_keeps_it(tmp_path: Path) -> None:
    home = Home(tmp_path)
    first = create_keys(home, password="so secret", light=True)
    home.relayer_keystore.unlink()
    assert load_node_keys_with(home, "so secret", tmp_path).relayer is None
    second = create_keys(home, password="so secret", light=True)
    assert (second.address, second.peer_id) == (first.address, first.peer_id)
    assert second.relayer != first.relayer
    assert create_keys(home, password="so secret", light=True) == second


def load_node_keys_with(home: Home, password: str, folder: Path) -> NodeKeys:
    file = folder / "password"
    file.write_text(password)
    return load_node_keys(home, validator=True, relayer=True, password_file=file)


def test_a_node_without_endpoints_does_not_load_web3() -> None:
    program = "import sys, omninode.node.runtime; print('web3' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == b"False"


def test_loading_web3_leaves_the_recursion_limit_alone() -> None:
    program = "import sys, omninode.contracts.opening; print(sys.getrecursionlimit())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.strip() == b"1000"
