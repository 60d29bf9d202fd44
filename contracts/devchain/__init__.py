"""The devnet's own EVM chain: py-evm on LevelDB, behind JSON-RPC. Never a part of production."""
