"""Histories that others recorded, read into ours: one module a format, `registry` knows them all.

Pure functions over bytes, but for `opening`, which looks into files and folders. Formats and sources: docs/checker.md.
"""
