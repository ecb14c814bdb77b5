"""The graph: avals, nodes, one rewriter, a verifier and a printer."""
