"""The worker's side: one rank of a job. Importing this package imports no torch."""

__version__ = "0.1.0"
