"""What becomes of an image in each release and on a host, and what would mend it, as plain data:
`outlooks`, for the report."""

from __future__ import annotations

from contextlib import suppress
from functools import cache

from hvmctx.abi.releases import NEWEST, Release
from hvmctx.errors import HvmctxError
from hvmctx.mend.repair import as_command, repair
from hvmctx.restore.guest import Guest
from hvmctx.restore.image import would_restore
from hvmctx.restore.placing import place
from hvmctx.restore.stream import replay
from hvmctx.restore.verdict import REFUSE, UNREADABLE, VIOLATION, Verdict
from hvmctx.verify.restoring import Restoring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from hvmctx.image.image import Image
    from hvmctx.restore.host import Host
    from hvmctx.restore.stream import StreamJudge

    Plain = dict[str, Any]

__all__ = ["outlooks"]

_ROUNDS = 32
"""Steps of a repair: of an image that needs more in each of twenty releases, some are enough."""
_MOST_HAZARDS = 1000


def outlooks(
    image: Image, releases: Iterable[Release] = (), hosts: Mapping[str, Host] | None = None
) -> list[Plain]:
    """One for each of the releases (by default that which wrote the image and all newer ones),
    then one for each host by name, with the release that runs there: `where` (`4.17`, `blue`),
    the members of `Verdict.as_dict()`, of an accept with what the host `lacks`; `edits` that mend
    a refusal, each with `rule`, `text`, `where`, `reason`
    and `command`, and `after`, the verdict with
    them, None where there are none. The image must be seekable.

    >>> from hvmctx import open_image
    >>> with open_image("examples/hvm1.save") as image:
    ...     [(each["where"], each["verdict"]) for each in outlooks(image)[:2]]
    [('4.17', 'accept'), ('4.18', 'accept')]
    """
    wanted: list[tuple[Release, str | None, Host | None]] = [
        *((release, None, None) for release in releases or image.release.and_newer()),
        *((host.release or Release(NEWEST), name, host) for name, host in (hosts or {}).items()),
    ]
    judges = Restoring([release for release, _, _ in wanted])
    replay(image, judges)
    guest_of = cache(Guest.of_image)
    return [
        {
            "where": name or str(release),
            "release": str(release),
            **_outlook(image, release, host, guest_of, judges.reader(release)),
        }
        for release, name, host in wanted
    ]


def _outlook(
    image: Image, release: Release, host: Host | None, guest_of: Callable[[Image], Guest],
    reader: StreamJudge,
) -> Plain:  # fmt: skip
    lacks, after = "", None
    edits: list[Plain] = []
    try:
        if host is None:
            verdict = would_restore(image, release, guest_of=guest_of, reader=reader)
        else:
            placed = place(image, host, release, guest_of=guest_of, reader=reader)
            verdict, lacks = placed.verdict, placed.in_short
    except HvmctxError as error:
        verdict = Verdict(UNREADABLE, text=str(error), layer="")
    if verdict.verdict in (REFUSE, VIOLATION):
        with suppress(HvmctxError):
            mended = repair(image, release, host=host, rounds=_ROUNDS)
            after = mended.verdict
            edits = [
                {
                    "rule": edit.rule, "where": edit.where, "text": edit.text,
                    "reason": edit.reason,
                    "command": as_command(edit.change, image.source.name) + edit.was,
                }
                for edit in mended
            ]  # fmt: skip
    del verdict.hazards[_MOST_HAZARDS:]
    return {
        **verdict.as_dict(), "record": verdict.where, "reason": verdict.reason, "lacks": lacks,
        "edits": edits, "after": None if after is None else after.as_dict(),
    }  # fmt: skip
