"""From one dialect of a model family to another: the notation, the plan, the ledger."""
