from __future__ import annotations

import json
import random

from hvmctx.fuzz.target_json import JSON


def test_seeds_are_a_context_an_image_and_bytes() -> None:
    reached = [JSON.run(data) for data in JSON.seeds(random.Random(1))]
    assert reached == [{"context"}, {"image"}, {"bytes-only"}]


def test_edits_change_values_and_text() -> None:
    """Some are JSON still, whose checks they are for; some are not."""
    rng = random.Random(1)
    (seed, *_) = JSON.seeds(rng)
    assert json.loads(seed)

    def is_json(text: bytes) -> bool:
        try:
            json.loads(text)
        except ValueError:
            return False
        return True

    made = [JSON.mutate(seed, rng) for _ in range(60)]
    assert {is_json(text) for text in made} == {True, False}
    assert JSON.run(b"[") == JSON.run(b'{"hvmctx": 2, "image": 5}') == {"FieldError"}
