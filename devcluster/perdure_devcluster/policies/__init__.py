"""NetworkPolicies, kept on each node: read from the API server, rendered into nftables."""
