"""Acceptance: what two sides have shown, judged over the levels L0 to L7, for somebody to sign."""
