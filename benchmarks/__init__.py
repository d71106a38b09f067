"""Measurements against a hand-written script and against peers, in the same run; ``make bench``."""
