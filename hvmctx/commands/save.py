"""Save a running HVM or PVH guest, as `xl save` does, through Xen's own libraries: needs root in
dom0. Afterwards the guest is paused (`xl unpause` lets it go on, `xl destroy` ends it), or runs on
with --checkpoint. If anything goes wrong it runs on, and no file is left. PV guests are refused.
"""

from __future__ import annotations

import time

from hvmctx import messages
from hvmctx.abi import streams
from hvmctx.commands import inputs
from hvmctx.errors import UsageError
from hvmctx.files.compression import compressed
from hvmctx.files.output import replacing
from hvmctx.files.sink import Sink
from hvmctx.render.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from typing import BinaryIO

    from hvmctx.buffers import Buffer
    from hvmctx.live.domain import DomainSource
    from hvmctx.live.xen import Xen
    from hvmctx.save.engine import PrecopyStats, Saved
    from hvmctx.stream.writer import StreamWriter

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "save a running guest, still or live, as xl save does"
EXAMPLES = (
    "hvmctx save 7 --live --checkpoint -o seven.save",
    "hvmctx save 7 --stop pause --stream libxc -o seven.xc",
)
_LONGEST = 86400.0
_TICK = 0.5


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("domid", metavar="DOMID", help="the number of the domain, see xl list")
    parser.add_argument(
        "--live", action="store_true", help="send memory while it runs, stop it for the rest only"
    )
    parser.add_argument(
        "--checkpoint", action="store_true", help="let it run on afterwards, as xl save -c"
    )
    parser.add_argument(
        "--stream", choices=("xl", "libxc"), default="xl",
        help="what xl restore takes (default), or libxc's stream alone, without device model",
    )  # fmt: skip
    parser.add_argument(
        "--stop", choices=("suspend", "pause"), default="suspend",
        help="suspend asks the guest's drivers, as xl does (default); pause does not, and "
        "drivers of Xen's devices then fail in the restored guest",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=60, metavar="SECONDS",
        help="how long it may take to suspend (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--on-timeout", choices=("fail", "pause"), default="fail", help="what to do then"
    )
    parser.add_argument(
        "--compress", choices=("zstd",), help="for the archive: xl does not read it"
    )
    inputs.add_output(parser)


def run(args: Namespace) -> int:
    domid = inputs.domid_of(args.domid, "save")
    if not 0 <= args.timeout <= _LONGEST:
        raise UsageError(f"save: --timeout {args.timeout:g}: expected 0 to {_LONGEST:g} seconds")
    from hvmctx.live.domain import DomainSource
    from hvmctx.live.keeper import Keeper
    from hvmctx.live.xen import Xen

    keeper = Keeper(domid)
    try:
        with Xen() as xen:
            source = DomainSource(
                xen, domid, stop=args.stop, timeout=args.timeout, live=args.live,
                otherwise="pause" if args.on_timeout == "pause" else "", done=keeper.tell,
            )  # fmt: skip
            whole = False
            try:
                saved, written = _save(args, xen, source)
                whole = True
            finally:
                source.close(leave_paused=whole and not args.checkpoint)
    finally:
        keeper.close()
    state = "runs on" if args.checkpoint else "is paused"
    if source.was_stopped:
        state = "stands still, as before"
    passes = f"{len(saved.passes)} pass{'es' if len(saved.passes) > 1 else ''}"
    messages.say(
        f"domain {domid}: {sum(saved.passes)} pages in {passes}, {written} bytes; the guest {state}"
    )
    return 0


def _save(args: Namespace, xen: Xen, source: DomainSource) -> tuple[Saved, int]:
    from hvmctx.save.engine import save

    version = 3 if xen.version >= _V3_SINCE else 2
    with replacing(args.output, force=args.force) as out:
        with compressed(out, args.compress) as file:
            sink = _ShownSink(file)
            try:
                if args.stream == "libxc":
                    saved = save(source, sink, version=version, live=args.live, policy=sink.policy)
                else:
                    saved = _save_xl(args, source, sink, version)
            finally:
                sink.end()
        return saved, sink.written


_V3_SINCE = tuple(map(int, streams.STATIC_DATA_SINCE.split(".")))


def _save_xl(args: Namespace, source: DomainSource, sink: _ShownSink, version: int) -> Saved:
    from hvmctx.live.libraries import XenError
    from hvmctx.save.engine import save
    from hvmctx.save.libxl import DeviceModelFile, LibxlSave, write
    from hvmctx.stream.xlfile import config_to_bytes

    path = source.device_model_file
    if path is None and source.type == "hvm":
        raise XenError(
            f"domain {source.domid}: no device model can be asked for its state; "
            "--stream libxc does without"
        )
    saved: list[Saved] = []

    def helper(sink: Sink, writer: StreamWriter) -> None:
        assert isinstance(sink, _ShownSink)
        saved.append(
            save(source, sink, writer=writer, version=version, live=args.live, policy=sink.policy)
        )

    libxl = LibxlSave(
        hvm=source.type == "hvm", xenstore=source.xenstore(), layer="xl",
        emulator=None if path is None else DeviceModelFile(path),
        optional_data=config_to_bytes(source.configuration()),
    )  # fmt: skip
    write(libxl, sink, helper)
    return saved[0]


class _ShownSink(Sink):
    """A sink that says on a terminal how far a save is."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self._progress = Progress()
        self._start = self._next = time.monotonic()
        self._pass = 1
        self._left = 0

    def policy(self, stats: PrecopyStats) -> str:
        """Xen's, looked at."""
        from hvmctx.save.engine import default_policy

        self._pass = stats.iteration + 1
        if stats.dirty_count >= 0:
            self._left = self.written + stats.dirty_count * streams.PAGE_SIZE
        return default_policy(stats)

    def write(self, *buffers: Buffer) -> None:
        super().write(*buffers)
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _TICK
            rate = self.written / max(now - self._start, 1e-9) / (1 << 20)
            left = max(0, self._left - self.written) // streams.PAGE_SIZE
            self._progress.show(
                self.written,
                f"pass {self._pass}, {self.written >> 20} MiB, {rate:.1f} MiB/s, at most "
                f"{left} pages left",
            )

    def end(self) -> None:
        self._progress.end()
