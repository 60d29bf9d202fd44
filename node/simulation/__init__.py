"""Simulated networks: whole nodes on virtual time, with every fault a seed can bring."""
