"""A whole network on this machine: its world, its processes, its order flow and its report."""
