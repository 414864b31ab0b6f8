"""`hvmctx load`, over the stand-in for a running Xen."""

from __future__ import annotations

from pathlib import Path

from tests.builders.running import Run
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.standin import PAUSED, StandIn


def test_load(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "context"
    path.write_bytes(context_bytes())
    done = run("load", path, "7")
    assert done.status == 2 and "domain 7 runs; pause it first" in done.err
    assert run("load", path, "7", "--force").status == 0
    stand_in.state.flags |= PAUSED
    for given in (path, EXAMPLE, "7"):  # its own too
        done = run("load", given, "7")
        assert done.status == 0
        assert (
            done.out == f"accept: Xen 4.17 has loaded {len(context_bytes())} bytes into domain 7\n"
        )
    assert stand_in.state.loaded == 4  # once by force


def test_refused(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    stand_in.state.flags |= PAUSED
    path = tmp_path / "context"
    path.write_bytes(b"\x02" + context_bytes()[1:])
    done = run("load", path, "7", "--layer", "context")
    assert done.status == 1 and not done.err
    assert done.out == "refuse: Xen 4.17: EINVAL\n  HVM7 restore: no, not this\n"


def test_no_such_domain(stand_in: StandIn, run: Run, tmp_path: Path) -> None:
    path = tmp_path / "context"
    path.write_bytes(context_bytes())
    assert run("load", path, "seven").status == 2
    done = run("load", path, "6")
    assert done.status == 1 and "no such domain" in done.err
    done = run("load", tmp_path / "nothing", "7")
    assert done.status == 1 and "No such file" in done.err
