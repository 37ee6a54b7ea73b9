import dataclasses
import json

import pytest

from seggpt.config import SegGPTConfig, ViTConfig

PRESETS = [
    SegGPTConfig.tiny,
    SegGPTConfig.small,
    SegGPTConfig.base,
    SegGPTConfig.large,
    SegGPTConfig.painter,
]


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset) -> None:
    config = preset()
    assert SegGPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.vit.grid == (2 * config.grid, config.grid)


def test_unknown_fields_are_named() -> None:
    fields = SegGPTConfig.tiny().to_dict() | {"windows": 3}
    with pytest.raises(ValueError, match="windows"):
        SegGPTConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 50}, "multiple of patch_size"),
        ({"taps": (1, 99)}, "taps"),
        ({"merge_block": 5}, "merge_block"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SegGPTConfig.tiny(), **change)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="heads"):
        ViTConfig(patch_size=8, width=100, depth=1, heads=3, grid=(4, 4), pos_grid=(4, 4))
