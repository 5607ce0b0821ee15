"""Two captures in, one verdict out: numpy, and no framework."""
