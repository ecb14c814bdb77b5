"""Differentiation: from graph to graph, in the trace that the program belongs to."""
