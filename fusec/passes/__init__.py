"""Graph to graph, then graph to groups of nodes that are one kernel each."""
