"""Proof of Participation: scores, power, rewards, audits and evidence as pure functions.

Everything is an integer; shares are in basis points: 10,000 is all of it (consensus.md §1.5, §3).
"""
