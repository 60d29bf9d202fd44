"""State sync: a new node takes a sealed snapshot instead of executing every block (P6)."""
