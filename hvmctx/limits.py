"""How much hvmctx takes of what an input claims or holds: `Limits`.

Every bound of our own is one of its dimensions, declared here once. What is a fact of Xen's,
such as the longest record that its readers take, is in `abi`. An input that goes over one ends
with a `LimitError`, which names the limit and the option that moves it.
"""

from __future__ import annotations

from hvmctx.errors import LimitError, UsageError

__all__ = ["DEFAULT", "Limits", "size_of"]

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_MOST = 1 << 63


class Limits:
    """The most of each thing that is taken from one input. Those that are not given are the
    defaults, which no genuine image reaches; they do not change once it is made.

    >>> from hvmctx import Limits, open_image
    >>> limits = Limits(context_records=10)
    >>> with open_image("examples/hvm1.save", limits=limits) as image:
    ...     image.context
    Traceback (most recent call last):
    hvmctx.errors.LimitError: context: offset 0xd575: HVM_CONTEXT: more than 10 records: \
--limits context_records=N allows more
    >>> Limits.parse("kept=1G,stream_records=2M")
    Limits(kept=1073741824, stream_records=2097152)
    """

    context_records: int = 1 << 16
    """Records of a context. One of 4096 vcpus, 32 times what Xen gives an HVM guest, has 37,000
    if each vcpu has a record of every type."""
    stream_records: int = 1 << 18
    """Records of a stream, but for page batches of 256 pages and more. A saved guest has some
    dozens, and one short batch for each pass over its memory; a checkpointed stream has some
    ten for each checkpoint. Also records, page batches too, in JSON that is read."""
    batches: int = 1 << 23
    """Page batches of 256 pages and more. Xen writes 1024 pages a batch, so that two passes over
    a guest of 16 TiB fit. Those that are all different take some 200 MB of memory, those of a
    genuine guest hardly any."""
    input: int = 64 << 20
    """Bytes of an input that is read whole: a bare context, JSON, what becomes JSON, a payload.
    A context of 128 vcpus has 2.5 MB, the JSON of a stripped image less than that. Also
    `--max-size`."""
    kept: int = 128 << 20
    """Bytes kept of an input that can be read only once, page words left out. Of a saved guest
    some hundreds of kilobytes are kept."""
    words: int = 128 << 20
    """Bytes of page words kept of an input that can be read only once, 8 for each page: those of
    a guest of 64 GiB. What comes after them is looked at as it passes, and cannot be asked for
    again."""
    spooled: int = 1 << 40
    """Bytes copied to a temporary file of an input that can be read only once, where it must be
    read twice. So large a guest is saved to a file, and not compressed afterwards."""
    unpacked: int = 1 << 45
    """Bytes that come out of a compressed input. Two passes over a guest of 16 TiB fit."""
    window: int = 128 << 20
    """Bytes of what xz and zstd may look back at, which are held in memory. `zstd --long` asks
    for that much, `xz -9` for half."""
    config: int = 1 << 20
    """Bytes of xl's configuration, which cost up to thirty times as many once they are taken apart.
    It has some kilobytes. Longer ones are hex in JSON, where no string with escapes is longer."""
    rows: int = 1 << 16
    """Rows of a list of parameters, CPUID leaves, MSRs or xenstore keys, and notes of a core. Xen
    writes some hundreds at most, QEMU two notes a vcpu."""
    runs: int = 1 << 21
    """Runs of neighbouring pfns in a map of the guest's memory; batches that follow each other,
    with as many pages, are one. A restored guest is sent in some of them, what a live migration
    sends again is scattered."""
    strict_runs: int = 1 << 19
    """Runs as far as `verify --as strict` follows what became of each pfn, beyond one for each
    batch. It says where it gives up."""
    findings: int = 100_000
    """Findings about one input, and oddities and problems noted while it is read. Of a genuine
    image there are some dozens at most."""
    rule_findings: int = 10_000
    """Findings of one rule about one context. A rule that is broken has a finding a vcpu."""
    json_depth: int = 100
    """Levels of nested values in JSON. What `to-json` writes has a dozen."""
    json_values: int = 1 << 20
    """Values and keys of one record or header in JSON, which take up to 200 bytes each while it
    is read, and those outside of all. A page batch of Xen's has a thousand, a context of 128
    vcpus forty thousand."""
    sections: int = 1 << 14
    """Sections in the file of a device model. QEMU writes some dozens."""
    segments: int = 1 << 18
    """Segments of a core, read or written. QEMU writes some for each gap in the guest's memory."""
    core_notes: int = 64 << 20
    """Bytes of the notes of a core. QEMU writes some kilobytes a vcpu."""
    symbols: int = 1 << 20
    """Symbols of a kernel. Linux has some 200,000, those of its modules included."""
    legacy_part: int = 256 << 20
    """Bytes of one part of a legacy stream, its pages left out. The device model's state is the
    longest, some dozens of megabytes."""

    def __init__(self, **changed: int) -> None:
        """Raises UsageError for a name that there is not, and for a number below zero."""
        for name, value in changed.items():
            if name not in Limits.__annotations__:
                raise UsageError(f"no limit {name!r}; expected {', '.join(Limits.__annotations__)}")
            if not 0 <= value < _MOST:
                raise UsageError(f"limit {name}: found {value}, expected 0 to {_MOST - 1}")
        self.__dict__.update(changed)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("limits do not change: make others with `but`")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Limits) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash(tuple(self.as_dict().values()))

    def __repr__(self) -> str:
        return f"Limits({', '.join(f'{name}={value}' for name, value in self.__dict__.items())})"

    @classmethod
    def parse(cls, text: str) -> Limits:
        """`stream_records=2M,kept=1G`, as `--limits` takes it. Raises UsageError, which names
        those that there are."""
        changed = {}
        for part in text.split(","):
            name, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"limits: found {part!r}, expected NAME=VALUE")
            changed[name.strip()] = size_of(value)
        return cls(**changed)

    def but(self, **changed: int) -> Limits:
        """The same with some of them moved."""
        return Limits(**{**self.__dict__, **changed})

    def as_dict(self) -> dict[str, int]:
        """All of them by name."""
        return {name: getattr(self, name) for name in Limits.__annotations__}

    def over(
        self, name: str, what: str, *, layer: str, offset: int, record: str = ""
    ) -> LimitError:
        """The error for an input with more than that limit allows of `what`."""
        option = "--max-size " if name == "input" else f"--limits {name}="
        return LimitError(
            f"more than {_shown(getattr(self, name), what)}: {option}N allows more",
            limit=name, layer=layer, offset=offset, record=record,
        )  # fmt: skip


def size_of(text: str) -> int:
    """A number as the command line takes it: 4096, 64K, 2M, 1G. Raises UsageError."""
    digits, unit = text.strip(), ""
    if digits[-1:].isalpha():
        digits, unit = digits[:-1], digits[-1].upper()
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20) or unit not in _UNITS:
        raise UsageError(f"found {text[:40]!r}, expected a number such as 4096, 64K, 2M or 1G")
    return int(digits) << _UNITS[unit]


def _shown(value: int, what: str) -> str:
    if what.startswith("bytes") and value and value % (1 << 20) == 0:
        return f"{value >> 20} MiB{what.removeprefix('bytes')}"
    return f"{value} {what}"


DEFAULT = Limits()
"""Where nobody says otherwise."""
