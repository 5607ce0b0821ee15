"""What a proposal of rows is made from: patterns of names, fingerprints of values, orders of axes, labels."""
