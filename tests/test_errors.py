from __future__ import annotations

import copy
import pickle

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
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type)}
    assert {errors.FormatError, errors.InputError, errors.RestoreRefused} < kinds
    assert {kind for kind in kinds if not issubclass(kind, errors.HvmctxError)} == set()
    assert issubclass(errors.MissingRecordError, AttributeError)
    assert issubclass(errors.FieldError, ValueError)


def test_refusals_carry_their_errno() -> None:
    error = errors.RestoreRefused("no", errno="EINVAL", rule="cpu-cr0")
    assert (str(error), error.errno, error.rule) == ("no", "EINVAL", "cpu-cr0")


@pytest.mark.parametrize(
    "error",
    [
        errors.LengthError("too long", layer="libxc", offset=0x28, record="END", found="8 bytes"),
        errors.MissingPageError("no memory", pfn=3),
        errors.RestoreRefused("no", errno="EINVAL", rule="cpu-cr0"),
        errors.MissingRecordError("no CPU/9"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_out_of_another_process_as_they_are(error: errors.HvmctxError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error) and str(again) == str(error)
        assert vars(again) == vars(error) and again.args == error.args


def test_every_error_is_exported() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert kinds == set(errors.__all__)
