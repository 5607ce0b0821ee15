"""Known mistakes of ports, by concern: of weights, of settings, of the graph, of training."""
