"""A built lab, opened: machines, shells in the guests, probes, the lock. Knows no fault, client or figure."""
