"""Commands in a guest that end when whoever asked for them is gone: Ctrl-C, a closed terminal, SIGKILL.

sshd closes a session's pipes when its channel closes, and leaves the command alone: without a terminal there is no
SIGHUP, and a command that neither reads nor writes, such as `etcdctl lock`, stays, and keeps its lock. So a watch runs
beside it: `tail -f` of nothing, which ends when nobody reads its output any more (coreutils 8.28, 2017). Then the
command's process group gets SIGTERM, on which etcdctl revokes its lease, and SIGKILL after GRACE_SECONDS. What has left
the group (a daemon) stays. Input and output are the command's own: none of this reads or writes them.
"""

from __future__ import annotations

import shlex
from typing import Final

GRACE_SECONDS: Final = 5
"""From SIGTERM to SIGKILL."""

_SCRIPT: Final = f"""
trap : TERM
exec 3>&2 2>/dev/null
set -m
( tail -f -s 0.3 /dev/null
  trap '' TERM
  exec >/dev/null
  kill -TERM -- -$$
  for ((tries = 0; tries < {GRACE_SECONDS * 10}; tries++)); do kill -0 -- -$$ || exit; sleep 0.1; done
  kill -KILL -- -$$
) </dev/null 3>&- &
watch=$!
set +m
( trap - TERM; exec 2>&3 3>&-
@COMMAND@
)
status=$?
kill -TERM -- -$watch
exit $status
"""
"""For bash, which sshd made the leader of a process group: the command is in that, and the watch, by `set -m`, in one
of its own. The command is not a job in the background: bash takes such a one's input away, or takes it for ended when
it is only stopped, or misses its end (`wait -n`). What bash itself would say of a killed command is not said."""


def tethered(command: str) -> str:
    """`command`, a piece of shell, as ssh is to hand it to the login shell of a guest.

    The exit status is the command's own, 128 + N when signal N ended it.
    """
    script = shlex.quote(_SCRIPT.replace("@COMMAND@", command))
    return f'tether={script}; case $BASH_VERSION in ?*) eval "$tether" ;; *) exec bash -c "$tether" ;; esac'
