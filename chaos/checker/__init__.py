"""The checker, a library: whether one correct etcd could have given the recorded answers (docs/checker.md).

    from chaos.checker import History, check

    report = check(History.from_operations(operations))

`check_run` checks a run's history.jsonl with the watch.jsonl and the copies of members' logs beside it. Nothing here
knows the lab.
"""

from chaos.checker.errors import HistoryError
from chaos.checker.history import History
from chaos.checker.run import check_run
from chaos.checker.verdict import Report, Verdict, check
from chaos.checker.violation import Violation

__all__ = ["History", "HistoryError", "Report", "Verdict", "Violation", "check", "check_run"]
