"""The exchange's side of the settlement chain: deposits, withdrawals and checkpoints.

`evm` and `merkle` are the formats that the contract checks; `deposits`, `withdrawals` and
`checkpoints` are state (PROTOCOL.md P9); `execution` applies the actions and ends a block.
"""
