"""Secret keys of a node and of its people: keystores, passwords, the keys of a running node."""
