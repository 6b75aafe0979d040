"""What clients do to the cluster while it breaks, and the record of it."""
