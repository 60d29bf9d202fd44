"""Units for systemd, to be copied and adapted by an operator."""
