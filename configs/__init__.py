"""Data that ships with the node: genesis files, service units and sample market data."""
