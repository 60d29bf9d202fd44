"""What a validator owes the others beside voting: its word, its evidence, its audits."""
