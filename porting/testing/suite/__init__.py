"""What parity_tests/ is made of: its cases, the captures that all workers share, and what is expected to fail."""
