"""The checker: did the cluster keep its word? Pure functions over recorded histories; see docs/checker.md.

`chaos.checker.verdict.check` decides a history, `chaos.checker.files` reads one. Nothing else here does I/O.
"""
