"""Named places at which a process can be made to die, to prove that dying there loses nothing.

`CRASH_POINT=after_commit:3` ends the process the third time it comes by, as kill -9 would: no
cleanup, no flush. `CRASH_POINT=after_commit:3:freeze` stops it there, until somebody sends SIGCONT.
Without the variable a place costs one comparison.
"""

from __future__ import annotations

import os
import signal
from typing import Final, Literal

PipelinePoint = Literal[
    "after_load", "before_commit", "after_commit", "after_publish", "after_offset_commit"
]
"""What every service comes by."""
RequestPoint = Literal["before_request", "after_request"]
"""What a service comes by that calls others over HTTP."""
CrashPoint = PipelinePoint | RequestPoint

EXIT_CODE: Final = 137
"""What a shell reports for a process that was killed by SIGKILL."""

_name, _count, _how = (os.environ.get("CRASH_POINT", "") + "::").split(":")[:3]
_left = int(_count or "1")


def reach(place: CrashPoint) -> None:
    """Say that the process came by `place`; ends or stops it when it is the one asked for."""
    global _left
    if place != _name:
        return
    _left -= 1
    if _left != 0:
        return
    if _how == "freeze":
        os.kill(os.getpid(), signal.SIGSTOP)
    else:
        os._exit(EXIT_CODE)
