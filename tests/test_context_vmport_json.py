from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hvmctx.abi.vmport import VmportProfile
from hvmctx.context.vmport import (
    VmportState,
    pack,
    unpack,
)
from hvmctx.errors import FieldError
from tests.vmport_samples import PROFILES, states

with_profile = st.sampled_from(PROFILES).flatmap(lambda p: st.tuples(st.just(p), states(p)))


@settings(max_examples=25)
@given(with_profile)
def test_json(case: tuple[VmportProfile, VmportState]) -> None:
    profile, state = case
    assert VmportState.from_dict(json.loads(json.dumps(state.to_dict())), profile) == state
    body = pack(state, profile) + b"behind"
    plain = json.loads(json.dumps(unpack(body, profile).to_dict()))
    assert pack(VmportState.from_dict(plain, profile), profile) == body


@pytest.mark.parametrize(
    "plain",
    [None, {}, [], {"ping_time": 1}, {**VmportState.empty().to_dict(), "guestinfo": [["0"]]},
     {**VmportState.empty().to_dict(), "guestinfo": [["zz", "00"]]},
     {**VmportState.empty().to_dict(), "ping_time": 1 << 64},
     {**VmportState.empty().to_dict(), "channels": []}],
)  # fmt: skip
def test_what_is_no_json_form(plain: Any) -> None:
    with pytest.raises(FieldError):
        VmportState.from_dict(plain)
