"""Agreement on the order of transactions: a pure core and the shells that carry out its effects."""
