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
