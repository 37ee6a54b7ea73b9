import dataclasses

import pytest

from incontext.bench.subjects import Pictures, count_gflop
from seggpt.config import SegGPTConfig

TINY = dataclasses.replace(
    SegGPTConfig.tiny(attention="mutual"),
    image_size=32,
    width=32,
    depth=2,
    heads=2,
    merge_block=0,
    taps=(1,),
)


def test_the_query_half_is_counted_once_for_all_canvases() -> None:
    one, eight = count_gflop(TINY, 1), count_gflop(TINY, 8)
    assert 3 * one < eight < 0.85 * 8 * one


def test_encoded_examples_cost_only_what_looking_at_them_costs() -> None:
    prefix = dataclasses.replace(TINY, attention="prefix")
    assert count_gflop(prefix, 1) < 0.75 * count_gflop(TINY, 1)
    assert count_gflop(prefix, 4) > count_gflop(prefix, 1)


def test_a_dense_layer_costs_two_operations_a_weight_and_token() -> None:
    wider = dataclasses.replace(TINY, decoder_width=TINY.decoder_width + 8)
    tokens = 2 * (32 // 4) ** 2 // 2 + 32 // 4  # the query's, and one row above it
    linear = 2 * tokens * TINY.width * (8 * 4**2) / 1e9
    assert count_gflop(wider, 1) - count_gflop(TINY, 1) > linear


@pytest.mark.parametrize("count", [1, 3])
def test_pictures_are_the_same_every_time(count: int) -> None:
    first, second = Pictures.draw(count, 16), Pictures.draw(count, 16)
    assert len(first.examples) == len(first.masks) == count
    assert (first.query == second.query).all()
    assert 0 < first.masks[0].mean() < 1
