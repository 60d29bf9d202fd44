"""The daemon: configuration, peers, RPC, command line, and the one place that constructs things."""
