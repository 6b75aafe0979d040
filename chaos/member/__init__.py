"""One member on its machine: its unit, volume and settings, joining a cluster, being replaced."""
