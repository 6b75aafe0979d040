"""Faults of the data volume and of the data on it."""
