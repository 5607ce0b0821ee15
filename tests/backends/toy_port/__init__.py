"""A model small enough to check by hand, with everything that a session must handle."""
