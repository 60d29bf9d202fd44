"""The sealed lane: orders that nobody can read before their place is fixed (PROTOCOL.md P10).

`execution` has the rules of a batch, `auction` those of its price.
"""
