from __future__ import annotations

import os
from pathlib import Path

import pytest

from hvmctx.errors import InputError
from hvmctx.fuzz.corpus import Corpus


def test_corpus(tmp_path: Path) -> None:
    corpus = Corpus(str(tmp_path / "c"))
    first = corpus.add(b"one")
    assert corpus.add(b"one") == first and corpus.add(b"two") != first
    assert [data for _, data in corpus.load()] in ([b"one", b"two"], [b"two", b"one"])
    assert [data for _, data in corpus.load({os.path.basename(first)})] == [b"two"]
    path = corpus.add_finding(b"bad", "why")
    assert Path(path).read_bytes() == b"bad" and Path(f"{path}.txt").read_text() == "why"
    assert len(corpus.names()) == 2, "findings are no inputs"
    with pytest.raises(InputError):
        Corpus("/dev/null/c")


def test_an_input_is_named_by_its_contents(tmp_path: Path) -> None:
    one, other = Corpus(str(tmp_path / "one")), Corpus(str(tmp_path / "other"))
    assert os.path.basename(one.add(b"x")) == os.path.basename(other.add(b"x"))
    assert one.names() == other.names() == {os.path.basename(one.add(b"x"))}
    for number in range(20):
        one.add(bytes([number]))
    assert [name for name, _ in one.load()] == sorted(one.names())


def test_loading_takes_inputs_only(tmp_path: Path) -> None:
    """No reports, nothing that has gone, no directory of someone else's."""
    corpus = Corpus(str(tmp_path))
    kept = corpus.add(b"input")
    corpus.add_finding(b"bad", "why")
    (tmp_path / "theirs").mkdir()
    gone = corpus.add(b"gone")
    names = []
    for name, data in corpus.load():
        Path(gone).unlink(missing_ok=True)
        names.append((name, data))
    assert (os.path.basename(kept), b"input") in names
    assert {data for _, data in names} <= {b"input", b"gone"}
    assert list(corpus.load()) == [(os.path.basename(kept), b"input")]


def test_reports_of_any_text(tmp_path: Path) -> None:
    path = Corpus(str(tmp_path)).add_finding(b"bad", "a file \udcff")
    assert Path(f"{path}.txt").read_bytes() == b"a file \\udcff"
