"""Faults of a whole machine: power and clock."""
