"""Validators and their stake: registry, epochs, participation, rewards, audits, slashing.

State module `staking` of the app hash. Without `staking` in genesis it never changes.
"""
