"""The names that the package gives by itself."""

from __future__ import annotations

import pytest

from hvmctx.image.image import Image


def test_api_names() -> None:
    import hvmctx

    for name in hvmctx.__all__:
        assert getattr(hvmctx, name) is not None
        assert name in dir(hvmctx)
    assert hvmctx.Image is Image
    with pytest.raises(AttributeError):
        _ = hvmctx.nothing
