"""Settlement on an EVM chain: contract sources, their artifacts, and the code that talks to them."""
