"""JSON-RPC 2.0 over HTTP and WebSocket: how wallets, bots and the command line reach a node."""
