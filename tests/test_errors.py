from __future__ import annotations

import pytest

from hvmctx import errors


def test_message_and_attributes() -> None:
    error: errors.FormatError = errors.LengthError(
        "too long", layer="libxc", offset=0x28, record="END", found="8 bytes", expected="0"
    )
    assert str(error) == "libxc: offset 0x28: END: too long: found 8 bytes, expected 0"
    assert (error.layer, error.offset, error.record) == ("libxc", 0x28, "END")
    assert str(error.moved(8)).startswith("libxc: offset 0x30: ")
    assert str(errors.FormatError("odd", layer="xl", offset=0)) == "xl: offset 0x0: odd"
    assert str(errors.FormatError("odd", layer="xl", offset=0, expected="y")).endswith(
        "odd: expected y"
    )


def test_one_tree() -> None:
    for name in vars(errors):
        kind = getattr(errors, name)
        if isinstance(kind, type) and issubclass(kind, Exception):
            assert issubclass(kind, errors.HvmctxError)
    assert issubclass(errors.MissingRecordError, AttributeError)
    assert issubclass(errors.FieldError, ValueError)


def test_refusals_carry_their_errno() -> None:
    with pytest.raises(errors.RestoreRefused, match="no") as caught:
        raise errors.RestoreRefused("no", errno="EINVAL", rule="cpu-cr0")
    assert (caught.value.errno, caught.value.rule) == ("EINVAL", "cpu-cr0")
