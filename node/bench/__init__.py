"""The benchmarks of the performance page, each one command."""
