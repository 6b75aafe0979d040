"""Faults between nodes: cuts, partitions, links, impaired lines, names."""
