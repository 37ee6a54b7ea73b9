"""The recipes of the paper's prompts run on tiny imitations of their data sets."""

import dataclasses

import numpy as np
import pytest

from configs import tune_ade20k, tune_coco_panoptic
from incontext import Example
from incontext.tune.tuner import tune_prompt


@pytest.mark.parametrize(("recipe", "classes"), [(tune_ade20k, 150), (tune_coco_panoptic, 133)])
def test_a_recipe_runs_on_a_tiny_imitation(recipe, classes, models):
    segmenter = models("mutual")
    rng = np.random.default_rng(0)
    examples = []
    for _ in range(6):
        blocks = rng.integers(1, classes + 1, (3, 4)).repeat(8, axis=0).repeat(8, axis=1)
        image = rng.integers(0, 256, (24, 32, 3)).astype(np.uint8)
        examples.append(Example(image, blocks.astype(np.int32), kind="labels"))
    config = dataclasses.replace(
        recipe.get_config(), steps=2, batch_size=2, micro_batch=1, views=2, hold_out=1
    )
    result = tune_prompt(segmenter, examples, config=config)
    assert len(result.tuned_context.passes) == 1  # all classes at once
    assert result.tuned_context.about["learn"] == "pixels"
