"""Workers that leave without a word."""

import os


def last_rank_leaves(folder: str) -> int:
    """The last rank ends as if all were well; the others are through."""
    if int(os.environ["RANK"]) == int(os.environ["WORLD_SIZE"]) - 1:
        os._exit(0)
    return 0
