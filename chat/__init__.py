"""Rooms and private channels between members of the network."""
