"""Reads logs of training: a parser per dialect, found by what stands in the file."""
