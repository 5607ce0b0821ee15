"""Data for the models: tokens, records, pre-training text, rank tables. No framework is imported here."""
