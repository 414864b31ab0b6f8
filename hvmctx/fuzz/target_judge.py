"""The target `judge`: any bytes as a libxc stream, judged as a restore reads it."""

from __future__ import annotations

from hvmctx.abi.releases import Release
from hvmctx.files.opening import is_compressed
from hvmctx.fuzz.target import Target, choose
from hvmctx.fuzz.target_stream import mutated, stream_seeds
from hvmctx.image.image import open_image
from hvmctx.restore.stream import StreamJudge
from hvmctx.verify.registry import rules
from hvmctx.verify.views import RESTORE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hvmctx.image.index import Index, IndexedRecord

__all__ = ["JUDGE"]

_RELEASES = tuple(Release(name) for name in ("4.5", "4.17", "newest"))


class _Slowly(StreamJudge):
    """The readers without the fast path for page data."""

    def _ordinary_pages(self, index: Index, record: IndexedRecord) -> bool:
        return False


def _run(data: bytes) -> set[str]:
    """The fast path for page data judges as the rules do, in one of the releases."""
    if is_compressed(data):  # another format, then
        return set()
    release = choose(data, _RELEASES)
    verdicts = []
    for judge in (StreamJudge(release), _Slowly(release)):
        with open_image(data, layer="libxc", watcher=judge) as image:
            verdicts.append(judge.end(image))
    fast, slow = verdicts
    if fast is None or slow is None:
        assert fast is slow
        return {"accept"}
    assert fast.as_dict() == slow.as_dict()
    return {fast.rule}


_KNOWN = {rule.id for rule in rules(RESTORE, "libxc")} | {"accept"}
JUDGE = Target("judge", _run, _KNOWN, stream_seeds, mutated)
