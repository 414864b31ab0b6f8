from __future__ import annotations

import io
from array import array
from pathlib import Path
from typing import Any

import pytest

from hvmctx.abi.releases import Release
from hvmctx.errors import FieldError, FormatError, UsageError
from hvmctx.image.image import open_image
from hvmctx.save.build import DEFAULT_PARAMS, WithBlankPages, build, special_pages
from hvmctx.save.engine import SaveError
from hvmctx.save.guests import ImageSource, MemoryFileSource, StillGuest
from hvmctx.save.libxl import DeviceModelData, DeviceModelFile
from hvmctx.save.reset import reset_context
from hvmctx.verify.built import contradictions
from tests.builders.samples import EXAMPLE, context_bytes
from tests.builders.wrappers import VM, XML


def still(**state: Any) -> StillGuest:
    context = reset_context(1, Release("4.17")).to_bytes()
    return StillGuest(**{"context": context, "params": DEFAULT_PARAMS.items(), **state})


def built(guest: StillGuest, **how: object) -> bytes:
    out = io.BytesIO()
    build(guest, out, **how)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("layer", ["xl", "libxl", "libxc"])
def test_layers(layer: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(b"QEVM\0\0\0\3")
    how = {} if layer == "libxc" else {"emulator": DeviceModelFile(str(model))}
    if layer == "xl":
        how["config"] = b'{"c_info": {}}'  # type: ignore[assignment]
    data = built(still(), layer=layer, **how)
    with open_image(data) as image:
        assert image.format == layer and image.complete
        assert image.params == DEFAULT_PARAMS
        assert len(image.emulators) == (layer != "libxc")
        assert image.config == ({"c_info": {}} if layer == "xl" else None)
    assert contradictions(io.BytesIO(data)) == []


def test_parts_that_have_no_place(tmp_path: Path) -> None:
    for how, reason in (
        ({"layer": "libxc", "config": b"{}"}, "cannot hold a device model or a configuration"),
        ({"layer": "libxc", "emulator": DeviceModelFile("x")}, "cannot hold a device model"),
        ({"layer": "libxl", "config": b"{}"}, "cannot hold a configuration"),
        ({"layer": "context"}, "unknown layer"),
    ):
        with pytest.raises(UsageError, match=reason):
            built(still(), **how)
    with pytest.raises(FieldError, match="beyond the memory of any x86 guest"):
        built(still(params=[(1, 1 << 41)]))


def test_an_image_out_of_all_its_parts_is_itself() -> None:
    """The stripped example, but for what stripping left out: all absent pages."""
    with open_image(EXAMPLE) as image:
        guest = ImageSource(image)
        data = built(guest, config=image.config_text.rstrip(b"\0"), without_emulator=True)
        with open_image(data) as again:
            assert again.config == image.config and again.params == image.params
            assert again.context.to_bytes() == image.context.to_bytes()
            assert again.policy.cpuid == image.policy.cpuid
            assert again.memory_map.counts()[0xE] == image.memory_map.counts()[0xE]


def test_blank_pages_where_the_parameters_name_them(tmp_path: Path) -> None:
    memory = tmp_path / "memory"
    memory.write_bytes(b"m" * 4096 * 3)
    state: dict[str, Any] = {"context": context_bytes(), "params": [(1, 1), (17, 9), (12, 0x7000)]}
    data = built(MemoryFileSource(str(memory), **state), layer="libxc")
    with open_image(data) as image:
        kinds = {run.pfn: run.type for run in image.memory_map.populated()}
    assert kinds == {0: 0, 7: 0xE, 9: 0xE}
    data = built(MemoryFileSource(str(memory), **state), layer="libxc", blank_specials=False)
    with open_image(data) as image:
        assert len(image.memory_map) == 3
    assert special_pages([(1, 5), (12, 0x3000), (19, 1), (17, 0)]) == {5, 3}
    guest = WithBlankPages(StillGuest(), {4})
    assert guest.page_types(memoryview(array("Q", [3, 4, 5]))) == b"\x0f\x0e\x0f"


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        (b'{"c_info": {"type": "hvm"}}', True),
        (b'{"c_info": {"type": "hvm"}}\0', True),
        (b'{"c_info": {"type": "pvh"}}', False),
        (b'{"c_info": 5}', False),
        (b"[" * 100_000, False),
        (b"name = 'text'", False),
    ],
)
def test_an_hvm_guest_needs_its_device_model(config: bytes, needed: bool) -> None:
    guest = still()
    if needed:
        with pytest.raises(SaveError, match="cannot go on without its device model's state"):
            built(guest, config=config)
    built(guest, config=config, without_emulator=True)
    built(guest, config=config, emulator=DeviceModelData(b"QEVM") if needed else None)


@pytest.mark.parametrize("layer", ["xapi", "libvirt"])
def test_in_the_wrapper_of_another_toolstack(layer: str) -> None:
    """With the least that describes a guest, or what is given."""
    for config in (b"", {"xapi": VM, "libvirt": XML}[layer]):
        out = io.BytesIO()
        guest = StillGuest(context=context_bytes(), params=[(1, 5)])
        build(guest, out, layer=layer, config=config, emulator=DeviceModelData(b"QEVM\0\0\0\3"))
        with open_image(out.getvalue()) as image:
            assert image.format == layer and image.complete and not image.problems
            assert image.context.to_bytes() == context_bytes()
            assert [bytes(each.payload) for each in image.emulators] == [b"QEVM\0\0\0\3"]
            assert isinstance(image.config, dict) and isinstance(image.config["c_info"], dict)
            name = image.config["c_info"]["name"]
            assert name == ("web one" if config else {"xapi": None, "libvirt": "restored"}[layer])
    with pytest.raises(FormatError):
        build(guest, io.BytesIO(), layer=layer, config=b"((")
