"""One small guest in the wrappers of xl, XAPI and libvirt: every command says and does the same."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hvmctx.abi import streams
from hvmctx.cli import main
from hvmctx.errors import LimitError, MissingRecordError
from hvmctx.image.image import open_image
from hvmctx.json_form.document import dumps_json, loads_json
from hvmctx.limits import Limits
from hvmctx.restore.image import would_restore
from hvmctx.verify.views import verify
from tests.builders.altered import attack
from tests.builders.examples import one_in
from tests.builders.samples import DATA
from tests.builders.streams import hvm
from tests.builders.wrappers import (
    WRAPPED,
    XENOPS,
    XML,
    among_records,
    in_xapi,
    libvirt,
    libxc_of,
    xapi,
    xapi_record,
)

Run = Callable[[str, str], tuple[int, str, bytes]]
"""Of a wrapper and a command line: exit status, what it printed, what it wrote."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the images, and what is made of them."""
    folder = tmp_path_factory.mktemp("wrapped")
    for name, data in WRAPPED.items():
        path = str(folder / name)
        Path(path).write_bytes(data)
        main(["set", path, "CPU/0.rip=0x1234", "-o", f"{path}.other"])
        main(["extract", path, "-o", f"{path}.hvm"])
        main(["to-json", path, "-o", f"{path}.json"])
    return folder


@pytest.fixture
def run(prepared: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Run:
    """IN is the image, OTHER the same with another rip, OUT the output."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    capfdbinary.readouterr()

    def of(name: str, line: str) -> tuple[int, str, bytes]:
        path = tmp_path / name
        out = tmp_path / "out"
        out.unlink(missing_ok=True)
        names = {"IN": path, "OTHER": f"{path}.other", "OUT": out, "CONTEXT": f"{path}.hvm",
                 "JSON": f"{path}.json"}  # fmt: skip
        status = main([str(names.get(word, word)) for word in line.split()])
        sys.stdout.flush()
        said = b"".join(capfdbinary.readouterr()).decode().replace(str(path), "IN")
        return status, said, out.read_bytes() if out.exists() else b""

    return of


def without_offsets(text: str) -> str:
    """The context lies elsewhere in each file; and a line says which it is."""
    text = re.sub(r"(xl|xapi|libvirt) image", "image", text)
    return re.sub(r'offset(": | 0x)[0-9a-f]+', "offset", text)


def streams_of(data: bytes) -> bytes:
    """What is the same in each wrapper of a written image: its libxc stream."""
    return libxc_of(data)


SAID = (
    "IN", "dump IN", "dump IN --release 4.13 --record CPU", "dump IN --format json",
    "dump IN --format table", "get IN CPU/0.rip HVM_PARAMS.CONSOLE_PFN", "verify IN",
    "repair IN --release 4.17", "repair OTHER --release 4.13",
    "policy IN", "policy IN --format json",
    "verify IN --as verifier", "verify IN --as strict --vcpus 1", "restore IN",
    "restore IN --release 4.17 --format json", "restore OTHER --release 4.10",
    "diff IN OTHER", "diff IN CONTEXT", "extract IN --what hvm-context -o OUT",
    "extract IN --what emulator -o OUT", "extract IN --what record:CPU/0 -o OUT",
    "extract IN --what record:X86_TSC_INFO -o OUT", "extract IN --what memory -o OUT",
    "extract IN --what memory --format elf -o OUT",
    "build --base IN --layer libxl --release 4.17 --param STORE_PFN=1 -o OUT --force-inconsistent",
)  # fmt: skip
WRITTEN = (
    "set IN CPU/0.rip=5 HVM_PARAMS.CONSOLE_PFN=7 -o OUT",
    "replace IN CONTEXT -o OUT", "replace OTHER CONTEXT -o OUT", "strip IN -o OUT",
    "strip IN --keep-holes -o OUT", "from-json JSON -o OUT",
)  # fmt: skip


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_every_command_says_the_same(wrapper: str, run: Run) -> None:
    for line in SAID:
        expected, found = run("xl", line), run(wrapper, line)
        assert expected[0] in (0, 1), line
        assert found[0] == expected[0] and found[2] == expected[2], line
        assert without_offsets(found[1]) == without_offsets(expected[1]), line


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_every_command_does_the_same(wrapper: str, run: Run) -> None:
    """And leaves the rest of the wrapper as it is."""
    for line in WRITTEN:
        expected, found = run("xl", line), run(wrapper, line)
        assert found[:2] == expected[:2] and expected[0] == 0, line
        made, whole = libxc_of(found[2]), found[2]
        assert made == libxc_of(expected[2]), line
        before, after = WRAPPED[wrapper].split(libxc_of(WRAPPED[wrapper]))
        assert whole.startswith(before) and whole.endswith(after), line
        assert len(whole) == len(before) + len(made) + len(after)


ALIKE = """complete guest memory pv tsc params policies device_models xenstore context checkpoints
verifies decoded problems notes"""


@pytest.mark.parametrize("wrapper", ["xapi", "libvirt"])
def test_info(wrapper: str, run: Run) -> None:
    facts = [json.loads(run(name, "info IN --format json")[1]) for name in ("xl", wrapper)]
    config = [each.pop("config") for each in facts]
    assert config[1] == {**config[0], "form": {"xapi": "S-expression", "libvirt": "XML"}[wrapper]}
    for name in ALIKE.split():
        assert facts[0][name] == facts[1][name], name
    assert run(wrapper, "info IN --records")[0] == 0


def test_json_both_ways(run: Run) -> None:
    for name, data in WRAPPED.items():
        assert run(name, "from-json JSON -o OUT") == (0, "", data)


def test_bytes_after_the_footer() -> None:
    """A suspend VDI is longer than its image."""
    for rest in (b"\0", bytes(4096), WRAPPED["xapi"], b"\xff" * 100):
        with open_image(WRAPPED["xapi"] + rest) as image:
            assert image.complete and not image.problems and image.end == len(WRAPPED["xapi"])
            assert [note.kind for note in image.notes] == ["trailing"]


def test_from_a_pipe() -> None:
    class Once(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def read(self, count: int = -1) -> bytes:
            return self.data.read(min(count, 1000))

    for data in WRAPPED.values():
        with open_image(Once(data)) as piped, open_image(data) as image:
            assert piped.context.to_bytes() == image.context.to_bytes()
            assert [r.name for r in piped.records] == [r.name for r in image.records]
            assert piped.config == image.config and piped.emulators == image.emulators
            assert piped.complete and not piped.problems


MUTATED = (
    "dump {}", "info {} --records", "get {} CPU.rip XENOPS.vm.name", "get {} XML.name",
    "verify {} --as strict", "restore {}", "to-json {} -o OUT --force", "strip {} -o OUT --force",
    "set {} XENOPS.vm.name=a -o OUT --force", "set {} XML.name=a -o OUT --force",
    "convert {} --to libvirt -o OUT --force", "convert {} --to xapi -o OUT --force",
    "extract {} --what xenops -o OUT --force", "extract {} --what xml -o OUT --force",
    "convert {} --to libxl -o OUT --force", "build --base {} --layer xapi -o OUT --force",
)  # fmt: skip


@pytest.mark.parametrize("part", one_in(10, range(10)))
@pytest.mark.parametrize("kind", ["XAPI", "LIBVIRT"])
def test_mutations_end_in_a_result_or_one_line(kind: str, part: int, tmp_path: Path) -> None:
    """100 of each wrapper, `make long` 1,000."""
    rng = random.Random(f"{kind}{part}")
    for number in range(100):
        command = tuple(MUTATED[(number + part) % len(MUTATED)].format(kind).split())
        assert not attack(command, rng, tmp_path), (command, number)


HUGE = xapi_record(streams.XAPI_VARSTORED, length=(1 << 64) - 1)
DEMU = xapi_record(streams.XAPI_DEMU) + b"state of a vGPU"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"LibvirtQemudSave" + bytes(80), "a save file of QEMU or KVM, by libvirt"),
        (b"conectix" + bytes(80), "a VHD disk"),
        (b"XenSavedDomv3-\n" + bytes(80), "unknown signature: found b'XenSavedDomv3-\\\\n'"),
        (b"libvirt-xml\n\0\0\0\0\0" + bytes(80), "wrong magic"),
        (streams.LIBVIRT_MAGIC + b"\3" + bytes(80), "unknown version: found 0x3, expected 2"),
        (streams.LIBVIRT_MAGIC + b"\0\0\0\2" + bytes(80), "written in big-endian order"),
        (streams.LIBVIRT_MAGIC + b"\2", "the input ends: found 17 bytes, expected 64"),
        (libvirt(b"", b"<domain/>")[:-1], "the input ends"),
        (WRAPPED["xapi"][:-3], "the input ends: found 13 bytes, expected 16"),
        (xapi(HUGE), "the input ends within the body: found 16 bytes, expected 1844674407"),
        (in_xapi(hvm(), DEMU), "only its own reader can tell where this ends"),
        (xapi(xapi_record(streams.XAPI_LIBXL)), "only its own reader can tell"),
        (b"XenSavedDomain\n" + bytes(90), "the XAPI suspend image holds a legacy stream"),
        (among_records(bytes(90)), "the XAPI suspend image holds a legacy stream"),
        (libvirt(bytes(90), version=1), "the libvirt file holds a legacy stream"),
        (in_xapi(hvm(), xapi_record(0x123456789)), "unknown mandatory record"),
        (xapi(xapi_record(streams.XAPI_LIBXC), hvm(), xenops=b"((time a)"), "a list is not closed"),
        (libvirt(WRAPPED["libvirt"][470:], b"<domain>"), "the domain's XML: not well-formed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(data: bytes, message: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "xl").write_bytes(data)
    status, said, _ = run("xl", "info IN")
    assert status == 1
    lines = [line for line in said.splitlines() if message.replace("\\\\", "\\") in line]
    assert len(lines) == 1 and "Traceback" not in said, said


def test_what_comes_before_a_vgpu_is_there(run: Run, tmp_path: Path) -> None:
    (tmp_path / "xl").write_bytes(in_xapi(hvm(), DEMU))
    for line in ("dump IN", "get IN CPU/0.rip", "to-json IN -o OUT"):
        status, _, made = run("xl", line)
        assert status == (0 if made else 1)
    assert loads_json(made) == in_xapi(hvm(), DEMU)
    assert "only its own reader" in run("xl", "restore IN")[1]
    assert "only its own reader" in run("xl", "verify IN")[1]


@pytest.mark.parametrize("layer", ["xapi", "libvirt"])
def test_a_layer_that_is_given(layer: str) -> None:
    with open_image(WRAPPED[layer], layer=layer) as image:
        assert image.complete and repr(image).startswith(f"<Image 'buffer': {layer}, ")
    with open_image(WRAPPED["xl"], layer=layer) as image:
        assert "wrong magic" in str(image.problems[0])


def test_a_described_guest() -> None:
    for layer, name in (("xapi", "name"), ("libvirt", "name")):
        with open_image(WRAPPED[layer]) as image:
            assert image.described is not None
            assert name in [place.path for place in image.described]
    with open_image(WRAPPED["libvirt"]) as image:
        assert image.xml == XML
    with open_image(WRAPPED["xl"]) as image:
        assert image.described is None
        with pytest.raises(MissingRecordError, match="not a libvirt file"):
            image.xml  # noqa: B018
    with open_image(
        xapi(xapi_record(streams.XAPI_LIBXC), hvm(), xenops=b"((time a)(word_size 1))")
    ) as bare:
        assert bare.described is None and bare.config is None
    with (
        open_image(WRAPPED["libvirt"], limits=Limits(config=5)) as image,
        pytest.raises(LimitError),
    ):
        image.config  # noqa: B018


def test_diff_of_descriptions(run: Run, tmp_path: Path) -> None:
    """With the paths that set takes; what no value shows byte by byte."""
    for name, path in (("xapi", "XENOPS.vm.name"), ("libvirt", "XML.name")):
        status, said, _ = run(name, "diff IN OTHER")
        assert status == 1 and said == "CPU/0.rip: 0xb7b9 -> 0x1234\n"
        main(
            [
                "set",
                str(tmp_path / name),
                f"{path}=b",
                "-o",
                str(tmp_path / f"{name}.other"),
                "--force",
            ]
        )
        assert run(name, "diff IN OTHER") == (1, f"{path}: web one -> b\n", b"")
    spaced = xapi(WRAPPED["xapi"][390:], xenops=XENOPS + b" ", end=b"")
    (tmp_path / "xapi.other").write_bytes(spaced)
    assert run("xapi", "diff IN OTHER")[1] == "XENOPS: 359 bytes -> 360 bytes\n"
    (tmp_path / "xapi.other").write_bytes(WRAPPED["libvirt"])
    said = run("xapi", "diff IN OTHER")[1]
    assert "format: xapi -> libvirt" in said and "config" not in said


def test_a_genuine_file_of_libvirts() -> None:
    """By Debian's libvirt 9.0 on Xen 4.17, without its page contents."""
    with open_image(DATA / "libvirt" / "lvpvh.save.xz", seekable=True) as image:
        assert (image.format, image.complete) == ("libvirt", True)
        assert not image.problems and not image.notes
        assert image.header("libvirt") is not None and image.xml_data()[-1:] == b"\0"
        assert image.config == {
            "c_info": {
                "type": "pvh", "name": "lvpvh", "uuid": "62412a48-3050-47c9-bb12-2619a37c2c93",
            },
            "b_info": {
                "max_vcpus": 2, "avail_vcpus": [0, 1], "max_memkb": 8192, "target_memkb": 8192,
            },
        }  # fmt: skip
        assert image.context.vcpus.ids == [0, 1]
        assert would_restore(image, "4.17").accepted and not verify(image)
        data = bytes(image.source.read_at(0, image.end))
    assert loads_json(dumps_json(data)) == data
