"""The methods of the JSON-RPC interface, a module per subject; `catalogue` lists them."""
