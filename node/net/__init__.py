"""Peers: the hardened py-libp2p layer, and the only package that knows libp2p exists."""
