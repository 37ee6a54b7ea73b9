"""The shipped model with its encoder fine-tuned: the last thing to do, for one accelerator.

    python -m train --config configs/small_finetune.py --data CACHE --out runs/fine \
        --set init=runs/small/weights.safetensors --set data.held_out=HELD

The cache and the weights to start from are those of `configs/in_context_small.py`. Rates fall by
0.7 a block below the top; what stands on the encoder learns at the full rate.
"""

from dataclasses import replace

from configs.in_context_small import get_config as get_frozen
from train.config import OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return replace(
        get_frozen(),
        optim=OptimConfig(lr=5e-5, warmup=200, weight_decay=0.03, layer_decay=0.7, ema=0.998),
        train_encoder=True,
        remat=True,
        steps=2000,
    )
