"""``ostinato report``: runs as one page that needs no network (free of torch)."""
