"""Recorded order flow that ships with the program; README.md beside it names source and licence."""
