"""NumPy code in, graph out."""
