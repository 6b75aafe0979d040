"""What etcd promises, by version, settings and machine: timing, the table of rules, and the comparison."""

from chaos.oracle.bounds import election_bound, request_bound, step_down_bound
from chaos.oracle.judge import Judgement, compare
from chaos.oracle.timing import REQUEST_SECONDS, Timing, minor, pre_vote

__all__ = [
    "REQUEST_SECONDS",
    "Judgement",
    "Timing",
    "compare",
    "election_bound",
    "minor",
    "pre_vote",
    "request_bound",
    "step_down_bound",
]
