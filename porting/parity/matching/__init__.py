"""How a mapping between two captures is proposed."""
