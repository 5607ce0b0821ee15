"""What `benchmarks/fuzz.py` damages, how it damages it, and how it judges what comes of it."""
