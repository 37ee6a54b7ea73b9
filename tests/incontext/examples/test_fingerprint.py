import numpy as np
import pytest

from incontext import Example, Segmenter
from incontext.examples.fingerprint import fingerprint
from tests.tiny_models import fresh_weights, save_in_context, tiny_seggpt

CONFIG = tiny_seggpt().to_dict()


def example() -> Example:
    rng = np.random.default_rng(0)
    mask = np.zeros((20, 24), np.uint8)
    mask[5:12, 6:15] = 1
    return Example(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), mask)


def test_any_number_and_any_field_counts():
    params = {"a": np.arange(4, dtype=np.float32), "b": np.ones(3, np.float32)}
    base = fingerprint(CONFIG, params)
    assert fingerprint(CONFIG, dict(params)) == base
    assert fingerprint(CONFIG, params | {"b": np.arange(3, dtype=np.float32)}) != base
    assert fingerprint(tiny_seggpt("mutual").to_dict(), params) != base
    assert fingerprint(CONFIG, params, "below") != base


@pytest.mark.parametrize("attention", ["prefix", "mutual"])
def test_a_context_is_used_in_another_precision(attention):
    config = tiny_seggpt(attention)
    full, half = (
        Segmenter(config, fresh_weights(config), dtype=dtype) for dtype in ("float32", "bfloat16")
    )
    context = full.context([example()])
    result = half.segment(np.zeros((20, 24, 3), np.uint8), context)
    assert result.label_map.shape == (20, 24)


def test_a_context_of_an_in_context_model_is_used_in_another_precision(tmp_path):
    path = save_in_context(tmp_path)
    full, half = (
        Segmenter.from_pretrained(path, dtype=dtype, size=112) for dtype in ("float32", "bfloat16")
    )
    context = full.context([example()])
    result = half.segment(np.zeros((20, 24, 3), np.uint8), context)
    assert result.label_map.shape == (20, 24)
