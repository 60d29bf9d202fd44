"""Moving funds between the settlement chain and the exchange, as any user does it from outside."""
