"""Loading a context into a domain, and what the hypervisor says of it: `load_into`."""

from __future__ import annotations

import errno
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.live.xen import Xen

__all__ = ["Answer", "load_into"]

_PROGRESS = re.compile(r"HVM ?d?\d*(?:v\d+)? restore(?: d\d+)?: ([A-Z_]+) (\d+)")
"""What Xen logs when it begins to load a record."""


class Answer:
    """What the hypervisor did with a context: the name of its errno, None if it took it; what it
    logged, but for its progress; and the last record whose load it began, if it logs that."""

    __slots__ = ("errno", "log", "record")

    def __init__(self, number: int, log: str) -> None:
        self.errno = None if not number else errno.errorcode.get(number, str(number))
        # the first line may have lost its beginning, where the log is longer than the ring
        lines = [line.split(") ", 1)[-1].strip() for line in log.splitlines()]
        begun = [match for line in lines if (match := _PROGRESS.fullmatch(line))]
        self.record = f"{begun[-1][1]}/{begun[-1][2]}" if begun else ""
        self.log = [line for line in lines if line and not _PROGRESS.fullmatch(line)]


def load_into(xen: Xen, domid: int, context: bytes) -> Answer:
    """Have the hypervisor load it. Raises XenError where the domain has gone."""
    xen.console()
    number = xen.load_context(domid, context)
    if number == errno.ESRCH:
        xen.state(domid)  # which says so
    return Answer(number, xen.console())
