"""OmniNode: one daemon that makes a small machine a full member of a decentralised exchange."""

__version__ = "0.1.0"
