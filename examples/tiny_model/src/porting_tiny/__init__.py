"""A bag of words with one hidden layer, as a port outside the kit."""
