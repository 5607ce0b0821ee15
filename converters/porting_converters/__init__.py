"""One file per model family: tables, nothing else."""
