"""Hypothesis strategies over what Xen saves, for your own tests:

    from hvmctx.fuzz import strategies as xen

    @given(xen.contexts(release="4.17", valid=False))
    def test_my_loader(data: bytes) -> None: ...

All are made from the declared layouts and the rules' bounds. They need hypothesis (`pip
install hvmctx[fuzz]`). A failing example is reproduced from its seed; `fuzz.minimise`, which
knows the formats, makes it small.
"""

from __future__ import annotations

from hypothesis import strategies as st

from hvmctx.abi.registry import by_name
from hvmctx.abi.releases import NEWEST, Release
from hvmctx.abi.streams import HVM_PARAM_CONSOLE_PFN, HVM_PARAM_STORE_PFN
from hvmctx.abi.vmport import VmportProfile, used
from hvmctx.context.vmport import VmportState, descriptor
from hvmctx.fuzz.contexts import any_record, mutate_context, valid_context
from hvmctx.fuzz.streams import mutate_stream, valid_stream
from hvmctx.fuzz.vmport import mutate_record, random_record, random_state
from hvmctx.save.build import build
from hvmctx.save.guests import StillGuest

__all__ = [
    "contexts", "images", "libxc_streams", "mutations", "records", "vmport_records",
    "vmport_states",
]  # fmt: skip

_randoms = st.randoms(use_true_random=True)  # hypothesis draws the seed


@st.composite
def contexts(draw: st.DrawFn, release: str = NEWEST, *, valid: bool = True) -> bytes:
    """An HVM context of a release. `valid`: one that it loads; otherwise with an edit or two."""
    rng = draw(_randoms)
    data = valid_context(rng, Release(release)).to_bytes()
    return data if valid else mutate_context(data, rng)[0]


@st.composite
def records(draw: st.DrawFn, name: str, *, valid: bool = False) -> bytes:
    """A record of that type, descriptor and body. `valid`: of the right length."""
    made = any_record(draw(_randoms), known := by_name(name))
    if valid:
        size = max(known.size, len(made.body)) if known.rest else known.size
        made.body = bytes(made.body)[:size].ljust(size, b"\0")
        made.instance = 0
    return made.to_bytes()


@st.composite
def vmport_states(draw: st.DrawFn, profile: VmportProfile | None = None) -> VmportState:
    """A state that the patch's writer could save."""
    return random_state(draw(_randoms), profile or used())


@st.composite
def vmport_records(
    draw: st.DrawFn, profile: VmportProfile | None = None, *, valid: bool = False
) -> bytes:
    """A VMPORT record, descriptor included. `valid`: what the patch's writer writes;
    otherwise mostly with lengths and counts around the loader's bounds."""
    rng, profile = draw(_randoms), profile or used()
    if not valid:
        return random_record(rng, profile)
    body = random_state(rng, profile).to_bytes(profile)
    return descriptor(body) + body


@st.composite
def libxc_streams(draw: st.DrawFn, version: int = 3, *, valid: bool = True) -> bytes:
    """A libxc stream of a small HVM guest. `valid`: one that a restore takes."""
    rng = draw(_randoms)
    data = valid_stream(rng, version)
    return data if valid else mutate_stream(data, rng, "libxc")[0]


@st.composite
def images(draw: st.DrawFn, layer: str = "xl", *, valid: bool = True) -> bytes:
    """An image with that outer layer, of a guest whose only memory is its special pages."""
    import io

    rng = draw(_randoms)
    context = valid_context(rng, Release("4.17")).to_bytes()
    params = [(HVM_PARAM_STORE_PFN, rng.randrange(1, 64)), (HVM_PARAM_CONSOLE_PFN, 3)]
    guest = StillGuest(context=context, params=params)
    out = io.BytesIO()
    build(guest, out, layer=layer)
    data = out.getvalue()
    return data if valid else mutate_stream(data, rng, layer)[0]


@st.composite
def mutations(draw: st.DrawFn, of: bytes, kind: str = "context") -> bytes:
    """These bytes with an edit or two in terms of their format: `context`, `vmport` (a
    record), or a layer of a stream, `libxc`, `libxl` or `xl`."""
    rng = draw(_randoms)
    if kind == "context":
        return mutate_context(of, rng)[0]
    if kind == "vmport":
        return mutate_record(of, rng, used())
    return mutate_stream(of, rng, kind)[0]
