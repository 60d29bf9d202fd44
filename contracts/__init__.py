"""Settlement on an EVM chain: contract sources, artifacts, and the code that talks to them."""
