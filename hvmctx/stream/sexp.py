r"""S-expressions, as OCaml's sexplib reads and writes them: XAPI describes a guest in them.

An atom is bytes, a list holds atoms and lists. An atom stands bare if it has no blank, quote,
parenthesis, semicolon, backslash, or byte that is not printable ASCII; else it is in double
quotes, with \n, \t, \r, \b, \", \\ and \DDD (decimal) for what cannot stand there. A reader takes
\xHH, a backslash at the end of a line, and comments (`; line`, `#| block |#`, `#; value`) too.

    >>> parse(b'((name "a b")(vcpus 2)())')
    [[b'name', b'a b'], [b'vcpus', b'2'], []]
    >>> to_bytes([[b"name", b"a b"], [b"vcpus", b"2"], []])
    b'((name "a b")(vcpus 2)())'

Source: sexplib's documentation, and the records in xen-api's tests (ocaml/xenopsd/test).
"""

from __future__ import annotations

import re

from hvmctx.errors import FormatError
from hvmctx.limits import DEFAULT
from hvmctx.stream.places import LONGEST_PATH, Place
from hvmctx.stream.reader import XAPI

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from hvmctx.limits import Limits

    Sexp: TypeAlias = "bytes | Sequence[Sexp]"
    Tree: TypeAlias = "Atom | list[Tree]"

__all__ = ["Atom", "parse", "places", "to_bytes", "written"]

_TOKEN = re.compile(
    rb"(?P<blank>[ \t\r\n\f]+|;[^\n]*)|(?P<block>#\|)|(?P<datum>#;)|(?P<open>\()|(?P<close>\))"
    rb'|"(?P<string>(?:[^"\\]|\\.)*)"|(?P<bare>[^ \t\r\n\f();"]+)',
    re.DOTALL,
)
_BLOCK = re.compile(rb"#\||\|#")
_ESCAPE = re.compile(rb"\\(\r?\n[ \t]*|[0-9]{3}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_NAMED = {
    b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"\\": b"\\", b'"': b'"', b"'": b"'",
    b" ": b" ",
}  # fmt: skip
_QUOTED = re.compile(rb'[^!-~]|["();\\]|#\||\|#|^#;|^$')
_ESCAPED = re.compile(rb'[^ -~]|["\\]')


class Atom(bytes):
    """An atom out of a text, and where it stands there, its quotes included."""

    start: int
    end: int


class _Parser:
    def __init__(self, text: bytes, limits: Limits, record: str) -> None:
        self._text = text
        self._limits = limits
        self._record = record
        self._room = limits.rows
        self._levels: list[tuple[list[Tree], int]] = [([], 0)]
        """The lists that are open, and how many values to ignore in each."""

    def run(self) -> Tree:
        at, text = 0, self._text
        while at < len(text):
            token = _TOKEN.match(text, at)
            if token is None:
                raise self._wrong("a string is not terminated", at)
            kind, start, at = token.lastgroup, at, token.end()
            if kind == "block":
                at = self._after_block(at)
            elif kind == "datum":
                values, ignored = self._levels[-1]
                self._levels[-1] = values, ignored + 1
            elif kind == "open":
                self._levels.append(([], 0))
                if len(self._levels) > self._limits.json_depth:
                    raise self._over("json_depth", "levels of nested lists", start)
            elif kind == "close":
                self._close(start)
            elif kind != "blank":
                self._add(self._atom(token), start)
        (values, ignored), *unclosed = self._levels
        if unclosed:
            raise self._wrong("a list is not closed", at)
        if ignored or len(values) != 1:
            raise self._wrong("not one S-expression", at, f"{len(values)} of them")
        return values[0]

    def _close(self, start: int) -> None:
        values, ignored = self._levels.pop()
        if not self._levels or ignored:
            raise self._wrong("a parenthesis closes nothing", start)
        self._add(values, start)

    def _add(self, value: Tree, start: int) -> None:
        self._room -= 1
        if self._room < 0:
            raise self._over("rows", "atoms and lists", start)
        values, ignored = self._levels[-1]
        if ignored:
            self._levels[-1] = values, ignored - 1
        else:
            values.append(value)

    def _atom(self, token: re.Match[bytes]) -> Atom:
        value = token["bare"]
        if value is None:
            value = _ESCAPE.sub(self._unescaped, token["string"])
        elif b"#|" in value or b"|#" in value:
            raise self._wrong("a comment within an atom", token.start())
        atom = Atom(value)
        atom.start, atom.end = token.span()
        return atom

    def _unescaped(self, escape: re.Match[bytes]) -> bytes:
        what = escape[1]
        if what.isdigit() and len(what) == 3:
            if int(what) > 255:
                raise self._wrong("an escape is more than a byte", 0, repr(escape[0]))
            return bytes((int(what),))
        if len(what) == 3 and what[:1] == b"x":
            return bytes.fromhex(what[1:].decode())
        if what.lstrip(b"\r")[:1] == b"\n":
            return b""
        return _NAMED.get(what, escape[0])  # sexplib keeps what it does not know

    def _after_block(self, at: int) -> int:
        depth = 1
        while depth:
            mark = _BLOCK.search(self._text, at)
            if mark is None:
                raise self._wrong("a comment is not terminated", at)
            depth += 1 if mark[0] == b"#|" else -1
            at = mark.end()
        return at

    def _wrong(self, problem: str, at: int, found: str = "") -> FormatError:
        return FormatError(
            f"not an S-expression: {problem}", layer=XAPI, offset=at, record=self._record,
            found=found,
        )  # fmt: skip

    def _over(self, name: str, what: str, at: int) -> FormatError:
        return self._limits.over(name, what, layer=XAPI, offset=at, record=self._record)


def parse(text: bytes, limits: Limits = DEFAULT, record: str = "XENOPS") -> Tree:
    """The value of a text: atoms (bytes that know where they stand) and lists. Raises
    FormatError, whose offset counts from the start of the text, and LimitError."""
    return _Parser(text, limits, record).run()


def to_bytes(value: Sexp) -> bytes:
    """The shortest text of a value, as sexplib writes it: a blank only between two atoms."""
    if isinstance(value, bytes):
        return written(value)
    out, after_atom = [b"("], False
    for part in value:
        atom = isinstance(part, bytes)
        out.append((b" " if atom and after_atom else b"") + to_bytes(part))
        after_atom = atom
    return b"".join(out) + b")"


def written(atom: bytes) -> bytes:
    """An atom, in quotes if it must be."""
    if not _QUOTED.search(atom):
        return bytes(atom)
    return b'"' + _ESCAPED.sub(_escaped, atom) + b'"'


def _escaped(found: re.Match[bytes]) -> bytes:
    for name, value in _NAMED.items():
        if value == found[0]:
            return b"\\" + name
    return b"\\%03d" % found[0][0]


def places(tree: Tree) -> list[Place]:
    """The atoms of a record, or of an association list, by their paths: that of `4` in
    ((name a)(platformdata((vcpus 4)))) is platformdata.vcpus. What has no key has a number,
    [0], [1] ..., and so has a key that is there again."""
    found: list[Place] = []
    times: dict[str, int] = {}
    todo: list[tuple[str, Tree]] = [("", tree)]
    while todo:
        path, value = todo.pop()
        if len(path) > LONGEST_PATH:
            continue
        if isinstance(value, Atom):
            text = value.decode("utf-8", "surrogateescape")
            found.append(Place(path, text, value.start, value.end))
            continue
        below: list[tuple[str, Tree]] = []
        keys = [_key_of(part) for part in value]
        for number, (key, part) in enumerate(zip(keys, value)):
            if key and all(keys) and isinstance(part, list):
                name = f"{path}.{key}" if path else key
                times[name] = again = times.get(name, -1) + 1
                below.append((f"{name}[{again}]" if again else name, part[1]))
            else:
                below.append((f"{path}[{number}]", part))
        todo += reversed(below)
    return found


def _key_of(part: Tree) -> str:
    """Of a pair; nothing for what is none, or has a key that a path cannot have."""
    if isinstance(part, list) and len(part) == 2:
        key = part[0]
        if isinstance(key, Atom) and _KEY.fullmatch(key):
            return key.decode()
    return ""


_KEY = re.compile(rb"[\w:/@+-]+")
