"""Faults as resources of a verification stack: the only Pulumi in chaos."""
