"""Durable state: blocks, exchange state and indexes in LevelDB, behind one writer thread."""
