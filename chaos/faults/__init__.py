"""Faults, one file per family. A fault can inject, heal and observe itself."""
