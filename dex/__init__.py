"""The exchange: a pure state machine that executes finalized blocks in exact integers."""
