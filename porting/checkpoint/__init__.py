"""Checkpoints of every framework as lazy mappings, and the layouts to write them."""
