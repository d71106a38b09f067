"""``ostinato watch``: a run as it goes, in the terminal (free of torch)."""
