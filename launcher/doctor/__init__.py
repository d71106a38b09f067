"""``ostinato doctor``: looks that gather facts, and pure functions that say what they mean."""
