"""Memory as raw files and ELF cores: read back, and by gdb and readelf where they are."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from hvmctx.cli import main
from hvmctx.edit.memory import CONTROL, extract_memory
from hvmctx.errors import FieldError, MissingRecordError, UsageError
from hvmctx.files.opening import open_source
from hvmctx.files.source import FileSource
from hvmctx.image.image import open_image
from hvmctx.save.guests import MemoryFileSource
from hvmctx.stream.elf import Core
from tests.builders.samples import DATA, EXAMPLE, context_bytes
from tests.builders.streams import libxc_head, page_data, record, word

PAGE = 4096
STREAM = (
    libxc_head()
    + record(16)
    + page_data(word(2), word(3), word(4, 0xE), word(5, 0xF), word(9), fill=0x61)
    + page_data(word(3), fill=0x71)
    + page_data(word(5000), fill=0x7A)
    + record(9, context_bytes())
    + record(0)
)
MEMORY = {2: b"a", 3: b"q", 4: b"\0", 9: b"e", 5000: b"z"}


def extracted(tmp_path: Path, form: str) -> Path:
    path = tmp_path / form
    (tmp_path / "stream").write_bytes(STREAM)
    arguments = ["extract", str(tmp_path / "stream"), "--what", "memory", "--format", form]
    assert main([*arguments, "-o", str(path)]) == 0
    return path


def test_raw(tmp_path: Path) -> None:
    path = extracted(tmp_path, "raw")
    data = path.read_bytes()
    assert len(data) == 5001 * PAGE
    for pfn in range(5001):
        assert data[pfn * PAGE : pfn * PAGE + PAGE] == MEMORY.get(pfn, b"\0") * PAGE
    assert path.stat().st_blocks * 512 < 100 * PAGE, "holes are holes"
    source = MemoryFileSource(str(path))
    assert source.p2m_size == 5001
    source.close()


def test_elf(tmp_path: Path) -> None:
    path = extracted(tmp_path, "elf")
    with open_source(str(path)) as source:
        assert isinstance(source, FileSource)
        core = Core.read(source)
        pages = {}
        for segment in core.segments:
            for at in range(0, segment.size, PAGE):
                page = source.read_at(segment.offset + at, PAGE) if at < segment.in_file else b""
                pages[(segment.address + at) // PAGE] = page or bytes(PAGE)
    assert pages == {pfn: byte * PAGE for pfn, byte in MEMORY.items()}
    assert [(note.owner, note.type) for note in core.notes] == [("CORE", 1), ("hvmctx", 1)]
    vcpu, cr0, _, cr3, _, efer = CONTROL.unpack(core.notes[1].data)
    with open_image(STREAM) as image:
        cpu = image.context.vcpus[0].cpu
        assert (vcpu, cr0, cr3, efer) == (0, cpu.cr0, cpu.cr3, cpu.msr_efer)


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not here")
def test_gdb_reads_the_registers(tmp_path: Path) -> None:
    path = tmp_path / "core"
    arguments = ["extract", str(DATA / "images" / "pvhx.save"), "--what", "memory"]
    assert main([*arguments, "--format", "elf", "-o", str(path)]) == 0
    done = subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", "info registers", "-ex", "info threads",
         "--core", str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    registers = dict(line.split()[:2] for line in done.stdout.splitlines() if len(line.split()) > 1)
    with open_image(DATA / "images" / "pvhx.save") as image:
        cpu = image.context.vcpus[0].cpu
    for name in ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "rip"):
        assert int(registers[name], 16) == getattr(cpu, name), name
    assert int(registers["cs"], 16) == cpu.cs_sel
    assert done.stdout.count("LWP") >= 4, "both vcpus are threads"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not here")
def test_readelf_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    path = extracted(tmp_path, "elf")
    done = subprocess.run(
        ["readelf", "-hln", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr
    assert "CORE (Core file)" in done.stdout and done.stdout.count("LOAD") == 4


def test_what_has_no_memory(capfd: pytest.CaptureFixture[str]) -> None:
    with open_image(libxc_head() + record(0)) as image, pytest.raises(MissingRecordError):
        extract_memory(image, io.BytesIO())
    with open_image(context_bytes()) as image, pytest.raises(MissingRecordError):
        extract_memory(image, io.BytesIO())
    far = libxc_head() + record(16) + page_data(word(1 << 51)) + record(0)
    for form in ("raw", "elf"):
        with open_image(far) as image, pytest.raises(FieldError, match="beyond the memory of any"):
            extract_memory(image, io.BytesIO(), form)
    with open_image(EXAMPLE) as image, pytest.raises(UsageError, match="raw or elf"):
        extract_memory(image, io.BytesIO(), "hex")
    assert main(["extract", str(EXAMPLE), "--what", "memory", "-o", "-"]) == 2
    assert "-o takes a file" in capfd.readouterr().err
