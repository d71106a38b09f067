"""Stage two (being written)."""
def check_targets(loaded): pass
