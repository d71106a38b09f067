"""Code as a user would write it, and small data for the configs that name it."""
