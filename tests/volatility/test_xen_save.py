"""The plug-ins of volatility3, with the real package: what it finds in images with known
contents, through layers that agree with `image.memory`."""

from __future__ import annotations

import copy
import gzip
import logging
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hvmctx.abi import streams
from hvmctx.abi.x86_bits import CR0, CR4, EFER
from hvmctx.image.image import open_image
from hvmctx.image.runs import Run
from hvmctx.save.build import LAYERS
from tests.builders.paging import PAGE
from tests.builders.samples import DATA, EXAMPLE, ROOT, context_bytes
from tests.builders.streams import (
    SMALL,
    hvm,
    libxc_head,
    libxc_stream,
    page_data,
    pv,
    record,
    word,
    xl_head,
)  # fmt: skip
from tests.builders.volatility import (
    BANNER,
    BANNER_AT,
    END,
    KERNEL,
    LONG_MODE,
    TABLES,
    make_guest,
    vol,
)  # fmt: skip

WHY = "volatility3 is not installed: make test brings it"
FOLDER = ROOT / "hvmctx" / "volatility"


@pytest.fixture(scope="module")
def xen_save(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The module, as volatility3 would import it; which makes a cache where it is told to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        pytest.importorskip("volatility3.framework", reason=WHY)
        from hvmctx.volatility import xen_save

        return xen_save


def based(data: bytes) -> Any:
    """A context with a layer `base` of these bytes."""
    from volatility3.framework import contexts
    from volatility3.framework.layers import physical

    context = contexts.Context()
    context.add_layer(physical.BufferDataLayer(context, "base", "base", data))
    return context


def stacked(xen_save: Any, data: bytes) -> list[Any]:
    """The layers that are put onto these bytes, the uppermost first."""
    from volatility3.framework.automagic.stacker import LayerStacker

    context = based(data)
    stackers = [xen_save.XenSaveStacker, xen_save.XenPagingStacker]
    names = LayerStacker.stack_layer(context, "base", stackers)
    return [context.layers[name] for name in names[:-1]]


def based_on_file(path: Path) -> Any:
    """A context with a layer `base` of a file."""
    from volatility3.framework import contexts
    from volatility3.framework.layers import physical

    context = contexts.Context()
    context.config["base.location"] = path.as_uri()
    context.add_layer(physical.FileLayer(context, "base", "base"))
    return context


def over_file(xen_save: Any, path: Path) -> Any:
    """The layer of physical memory over a file, in a context of its own."""
    return xen_save.XenSaveStacker.stack(based_on_file(path), "base")


def classes(layers: list[Any]) -> list[str]:
    return [type(layer).__name__ for layer in layers]


def test_as_a_user_runs_it(tmp_path: Path) -> None:
    pytest.importorskip("volatility3", reason=WHY)
    pytest.importorskip("yara_x", reason="yara-x is not installed: make test brings it")
    image = tmp_path / "guest.save"
    memory = make_guest(image)
    (tmp_path / "other.save.gz").write_bytes(gzip.compress(image.read_bytes()))
    (tmp_path / "renamed.save").write_bytes(gzip.compress(image.read_bytes()))
    yara = ("yarascan.YaraScan", "--yara-string", "@contents")
    said = vol(
        tmp_path, str(FOLDER),
        ("-f", image, "banners.Banners"),
        ("-f", image, *yara),
        ("--stackers", "XenSaveStacker", "-f", image, *yara),
        ("-f", image, "layerwriter.LayerWriter"),
        ("-f", image, "layerwriter.LayerWriter", "--list"),
        ("-f", image, "xen_save.Vcpus"),
        ("-f", EXAMPLE, "xen_save.Vcpus"),
        ("-f", tmp_path / "other.save.gz", "banners.Banners"),
        ("-f", tmp_path / "renamed.save", "banners.Banners"),
        ("--parallelism", "processes", "-f", image, "banners.Banners"),
    )  # fmt: skip
    banners, mapped, physical, written, layers, vcpus, stripped, packed, renamed, parallel = said
    banner = f"{BANNER_AT:#x}\t{BANNER.decode()}\n"
    at = BANNER_AT + BANNER.index(b"@contents")
    assert banner in banners
    assert re.findall(r"^(0x\w+)", mapped, re.MULTILINE) == [
        hex(at), hex(KERNEL - (0xFFFF << 48) + at),
    ]  # fmt: skip
    assert re.findall(r"^(0x\w+)", physical, re.MULTILINE) == [hex(at)]
    assert "written to memory_layer.raw" in written
    raw = (tmp_path / "memory_layer.raw").read_bytes()
    assert raw == memory[: len(raw)] and not any(memory[len(raw) :])
    assert layers.split("\n\n")[2].split() == [
        "base_layer", "FileLayer", "memory_layer", "XenSaveLayer", "primary", "Intel32e",
    ]  # fmt: skip
    assert "\n0\t0\t0xb7b9\t0x6f94\t0x246\t0x80050033\t0x0\t0x1000\t0x20\t0xd01\n" in vcpus
    assert "the image has no page contents" in stripped and "\n0\t" not in stripped
    assert banner in packed and "decompresses the file anew" in packed
    assert BANNER.decode() not in renamed and "decompress it first" in renamed
    assert banner in parallel


def test_the_folder_is_printed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hvmctx.volatility"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{FOLDER}\n"


def test_without_an_hvmctx_of_its_own(tmp_path: Path) -> None:
    """As where volatility3 has a virtual environment, and hvmctx comes with the system."""
    pytest.importorskip("volatility3", reason=WHY)
    program = (
        "import sys, runpy, importlib.util as util\n"
        "sys.path = [p for p in sys.path if p not in sys.argv[2:]]\n"
        "sys.meta_path = [m for m in sys.meta_path if 'editable' not in str(m).lower()]\n"
        "assert util.find_spec('hvmctx') is None\n"
        "before = list(sys.path)\n"
        "runpy.run_path(sys.argv[1])\n"
        "assert sys.path == before and 'hvmctx.image.image' in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-I", "-c", program, FOLDER / "xen_save.py", ROOT],
        cwd=tmp_path, check=True, env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
    )  # fmt: skip


words = st.builds(word, st.integers(0, 40), st.sampled_from(sorted(streams.PAGE_TYPES)))
batches = st.lists(st.lists(words, min_size=1, max_size=12), min_size=1, max_size=4)
spans = st.lists(st.tuples(st.integers(0, 42 * PAGE), st.integers(1, 3 * PAGE)), max_size=8)
PARAMS = record(
    streams.LIBXC_HVM_PARAMS,
    b"".join(n.to_bytes(w, "little") for n, w in ((1, 4), (0, 4), (1, 8), (3, 8))),
)
"""That the page of xenstore is pfn 3, which a restore clears."""


@given(sent=batches, spans=spans, cut=st.integers(0, 5000))
def test_agrees_with_memory(
    xen_save: Any, sent: list[list[int]], spans: list[tuple[int, int]], cut: int
) -> None:
    from volatility3.framework.exceptions import InvalidAddressException

    data = hvm(PARAMS, *(page_data(*batch, fill=at) for at, batch in enumerate(sent)), end=False)
    data = data[: max(100, len(data) - cut)]
    context = based(data)
    context.config["memory.base_layer"] = "base"
    layer = xen_save.XenSaveLayer(context, "memory", "memory")
    context.add_layer(layer)
    whole, there = bytearray(50 * PAGE), bytearray(50 * PAGE)
    with open_image(data) as image:
        for run in image.memory.populated():
            for pfn in range(run.pfn, run.end):
                place, at = run.part(pfn, pfn + 1).offset, pfn * PAGE
                size = PAGE if place is None else max(0, min(PAGE, len(data) - place))
                whole[at : at + size] = image.memory.read(at, size)
                there[at : at + size] = b"\1" * size
    if 1 in there:
        ends = layer.minimum_address, layer.maximum_address
        assert ends == (there.find(1), there.rfind(1))
    for start, size in spans:
        expected = whole[start : start + size]
        missing = [at for at in range(start, start + size) if not there[at]]
        assert layer.read(start, size, pad=True) == expected
        assert layer.is_valid(start, size) == (not missing)
        found = bytearray(size)
        for at, length, place, mapped, name in layer.mapping(start, size, ignore_errors=True):
            assert mapped in (0, length) and name == "base"
            if not any(pfn == 3 for pfn in range(at // PAGE, (at + length - 1) // PAGE + 1)):
                found[at - start : at - start + mapped] = data[place : place + mapped]
            else:
                found[at - start : at - start + length] = expected[at - start :][:length]
        assert found == expected
        if missing:
            for call in (layer.read, lambda *span: list(layer.mapping(*span))):
                with pytest.raises(InvalidAddressException) as caught:
                    call(start, size)
                assert caught.value.invalid_address == missing[0]
        else:
            assert layer.read(start, size) == expected
            assert sum(one[1] for one in layer.mapping(start, size)) == size


def test_a_scan_goes_across_runs_and_skips_holes(xen_save: Any) -> None:
    from volatility3.framework.layers import scanners

    sent = (page_data(*(word(n) for n in some)) for some in ((7, 8), (5, 6), (9,), (20,)))
    (layer,) = stacked(xen_save, libxc_stream(*sent))
    # pages are filled with 5a, 5b of each batch: pfns 5, 6, 7, 8, 9 lie at three places
    found = layer.scan(layer.context, scanners.BytesScanner(b"\x5b\x5a"))
    assert list(found) == [7 * PAGE - 1, 9 * PAGE - 1]
    chunks = list(layer._scan_iterator(scanners.BytesScanner(b""), [(0, 100 * PAGE)]))
    assert [piece for pieces, _ in chunks for piece in pieces] == [
        ("XenSaveLayer", 5 * PAGE, 5 * PAGE), ("XenSaveLayer", 20 * PAGE, PAGE),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", LAYERS)
def test_every_kind_of_image(xen_save: Any, kind: str, tmp_path: Path) -> None:
    memory = make_guest(tmp_path / "guest", kind)
    paging, layer = stacked(xen_save, (tmp_path / "guest").read_bytes())
    assert classes([paging, layer]) == ["Intel32e", "XenSaveLayer"]
    assert layer.read(0, END, pad=True) == memory
    assert paging.read(KERNEL + BANNER_AT, len(BANNER)) == BANNER


COMPRESSED = "the file is compressed: if it is the image of a Xen guest, decompress it first"
EMPTY = "the image has no page contents: there is nothing to look at"
LEGACY, XL_LEGACY = (
    (DATA / "streams" / f"legacy_hvm_w64{which}.in.bin").read_bytes() for which in ("", "_xl")
)
DECLINED = {
    "empty": (b"", []),
    "zeros": (bytes(5000), []),
    "one byte": (b"X", []),
    "a context": (context_bytes(), []),
    "text": (b"Xenophon " * 100, []),
    "a lime dump": (b"EMiL" + bytes(4000), []),
    "an ELF file": (b"\x7fELF" + bytes(4000), []),
    "gzip": (gzip.compress(SMALL), [COMPRESSED]),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(4000), [COMPRESSED]),
    "legacy": (LEGACY, ["legacy: offset 0x0: a legacy stream (Xen 4.5 or older)", EMPTY]),
    "stripped": (EXAMPLE.read_bytes(), [EMPTY]),
    "no pages": (hvm(), [EMPTY]),
    "a head": (libxc_head(), ["libxc: offset 0x28: record header", EMPTY]),
    "half a head": (xl_head()[:40], ["xl: offset ", EMPTY]),
    "legacy in xl": (XL_LEGACY, ["legacy: offset 0x37: the xl file holds a legacy stream", EMPTY]),
    "damaged parameters": (
        hvm(page_data(word(1)), record(streams.LIBXC_HVM_PARAMS, b"\xff" * 8)),
        ["libxc: offset "],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECLINED)
def test_what_is_left_alone(xen_save: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    data, said = DECLINED[name]
    with caplog.at_level(logging.WARNING):
        assert stacked(xen_save, data) == []
    messages = [entry.getMessage() for entry in caplog.records]
    assert len(messages) == len(said), messages
    assert all(one.startswith(start) for one, start in zip(messages, said)), messages


SERVED = {
    "damaged": (SMALL[:-9], "the input ends"),
    "PV": (pv(page_data(word(1))), "the guest is PV"),
}


@pytest.mark.parametrize("name", SERVED)
def test_what_is_served_with_a_word(
    xen_save: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    data, said = SERVED[name]
    with caplog.at_level(logging.WARNING):
        (layer,) = stacked(xen_save, data)
    assert layer.read(PAGE, PAGE) == b"\x5a" * PAGE
    (entry,) = caplog.records
    assert said in entry.getMessage()


def test_no_layer_on_what_others_have_made(xen_save: Any) -> None:
    context = based(hvm(page_data(word(1))))
    context.config["memory.base_layer"] = "base"
    context.add_layer(xen_save.XenSaveLayer(context, "memory", "memory"))
    assert xen_save.XenSaveStacker.stack(context, "memory") is None
    assert xen_save.XenPagingStacker.stack(context, "base") is None


USER = 0x60
"""The DPL of a stack segment: 3."""
PAGING: dict[str, tuple[dict[str, int], list[str]]] = {
    "long mode": ({}, ["Intel32e"]),
    "a PCID": ({"cr3": TABLES | 0x7FF, "cr4": CR4.PAE | CR4.PCIDE}, ["Intel32e"]),
    "no PAE in long mode, as only a damaged context has it": ({"cr4": 0}, ["Intel32e"]),
    "PAE": ({"cr3": 0x20, "msr_efer": 0}, ["IntelPAE"]),
    "two levels": ({"cr3": 0x1FFF, "cr4": 0, "msr_efer": 0}, ["Intel"]),
    "five levels": ({"cr4": CR4.PAE | CR4.LA57}, []),
    "a program": ({"ss_arbytes": USER | 0x93}, []),
    "no paging": ({"cr0": 0x11}, []),
}


@pytest.mark.parametrize("name", PAGING)
def test_paging(xen_save: Any, name: str, tmp_path: Path) -> None:
    fields, expected = PAGING[name]
    make_guest(tmp_path / "guest", fields=fields)
    layers = stacked(xen_save, (tmp_path / "guest").read_bytes())
    assert classes(layers) == [*expected, "XenSaveLayer"]
    found = layers[-1].metadata
    is_long = fields.get("msr_efer", LONG_MODE["msr_efer"]) & EFER.LMA
    assert found["architecture"] == ("Intel64" if is_long else "Intel32")
    assert found["vcpus"][0]["cr3"] == fields.get("cr3", TABLES)
    assert ("page_map_offset" in found) == bool(expected)
    if expected:
        mask = 0x1F if expected == ["IntelPAE"] else 0xFFF
        assert found["page_map_offset"] == found["vcpus"][0]["cr3"] & ~mask
        assert found["vcpus"][0]["cr0"] & CR0.PG


@pytest.mark.parametrize(("version", "expected"), [(10, "WindowsIntel32e"), (0, "Intel32e")])
def test_windows_by_its_shared_data(
    xen_save: Any, version: int, expected: str, tmp_path: Path
) -> None:
    top, directory, table = 0x200000, 0x201000, 0x202000
    more = {
        TABLES + 8 * (0xFFFFF78000000000 >> 39 & 511): (top | 3).to_bytes(8, "little"),
        top: (directory | 3).to_bytes(8, "little"),
        directory: (table | 3).to_bytes(8, "little"),
        table: (0x203000 | 3).to_bytes(8, "little"),
        0x203000: bytes(0x26C) + bytes((version, 0, 0, 0)),
    }
    make_guest(tmp_path / "guest", more=more)
    layers = stacked(xen_save, (tmp_path / "guest").read_bytes())
    assert classes(layers) == [expected, "XenSaveLayer"]
    assert layers[0].metadata["os"] == ("Windows" if version else "Unknown")


def test_layers_are_copied_and_sent(xen_save: Any, tmp_path: Path) -> None:
    make_guest(tmp_path / "guest")
    layer = stacked(xen_save, (tmp_path / "guest").read_bytes())[-1]
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert again.read(BANNER_AT, len(BANNER)) == BANNER
        assert again.metadata["vcpus"] == layer.metadata["vcpus"]


@pytest.fixture
def opened(xen_save: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The sources of the images that are opened from now on."""
    sources: list[Any] = []

    def counting(source: Any) -> Any:
        sources.append(source)
        return open_image(source)

    monkeypatch.setattr(xen_save, "open_image", counting)
    return sources


def test_layers_of_one_file_share_its_image(
    xen_save: Any, tmp_path: Path, opened: list[Any]
) -> None:
    path, other = tmp_path / "a guest", tmp_path / "other"
    path.write_bytes(libxc_stream(page_data(word(1))))
    other.write_bytes(libxc_stream(page_data(word(1), fill=7)))
    first, second = over_file(xen_save, path), over_file(xen_save, path)
    assert first.image is second.image and len(opened) == 1
    first.context.layers["base"].destroy()
    assert second.read(PAGE, 1) == b"\x5a"
    assert over_file(xen_save, other).read(PAGE, 1) == b"\7"
    assert second.read(PAGE, 1) == b"\x5a" and len(opened) == 2
    path.write_bytes(libxc_stream(page_data(word(1), word(2), fill=9)))
    assert over_file(xen_save, path).read(PAGE, 2 * PAGE)[-1] == 10
    for again in (copy.deepcopy(second), pickle.loads(pickle.dumps(second))):
        assert again._opened is None
    before = based_on_file(path)
    other.replace(path)
    assert xen_save.XenSaveStacker.stack(before, "base").read(2 * PAGE, 1) == b"\n"
    assert over_file(xen_save, path).read(PAGE, 1) == b"\7"


def test_scattered_pages_are_walked_once(
    xen_save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not again for each layer, nor for each address that is asked for."""
    rows, steps, made = 2000, [], Run.__init__

    def counting(run: Run, *given: Any) -> None:
        steps.append(run)
        made(run, *given)

    path = tmp_path / "guest"
    first = page_data(word(0))
    path.write_bytes(
        libxc_stream(
            first, page_data(*(word(2 * at, streams.PAGE_XALLOC) for at in range(1, rows)))
        )
    )
    monkeypatch.setattr(Run, "__init__", counting)
    layers = [over_file(xen_save, path) for _ in range(3)]
    assert len(steps) < 2 * rows + 20  # once to make the map, once to see what is next to what
    steps.clear()
    layer = copy.deepcopy(layers[0])
    for pfn in range(0, 2 * rows, 100):
        assert layer.is_valid(pfn * PAGE, PAGE) and not layer.is_valid(pfn * PAGE, 2 * PAGE)
        assert layer.read(pfn * PAGE, 2 * PAGE, pad=True)[PAGE:] == bytes(PAGE)
        assert len(list(layer.mapping(pfn * PAGE, 2 * PAGE, ignore_errors=True))) == 1
    assert (layer.minimum_address, layer.maximum_address) == (0, (2 * rows - 1) * PAGE - 1)
    assert len(steps) <= 2 * rows // 100 * 3
