"""Heads for points, boxes and masks on seggpt-tiny, which itself stays as it is.

    python -m train --config configs/prompt_heads.py --data PATH --out runs/heads \
        --init runs/whole/weights.safetensors

The rounds are those of "Segment Anything" (appendix A): a point or a box, eight clicks at
mistakes, two looks at the mask alone. A quarter of the steps start from what the in-context model
proposes for an example of the same thing, so that clicks can correct a proposal.
"""

from dataclasses import replace

from configs import tiny_cpu
from data.config import AugmentConfig, DataConfig, PairsConfig
from train.config import ClicksConfig, OptimConfig, TrainConfig

BACKBONE = (
    "vit",
    "mask_token",
    "segment_token_x",
    "segment_token_y",
    "type_token_semantic",
    "type_token_instance",
    "norm",
    "lookup",
    "guess",
    "decoder",
)


def get_config() -> TrainConfig:
    """Return the recipe."""
    model = replace(tiny_cpu.get_config().model, prompt_width=128, prompt_blocks=1, fusion_blocks=2)
    return TrainConfig(
        model=model,
        data=DataConfig(
            pack_size=224,  # so that a crop around a small thing still has pixels
            sprites=2000,
            pairs=PairsConfig(
                views=2, slots=2, two_views=(0.8, 0.8), several_labels=0.9, instances=1.0
            ),
            augment=AugmentConfig(scale=(0.05, 1.0), stitch=0.0),
        ),
        optim=OptimConfig(lr=1e-3, warmup=250, ema=0.998),
        clicks=ClicksConfig(classes=0.3),
        steps=20_000,
        batch_size=8,
        shots=((0, 0.75), (1, 0.25)),
        frozen=BACKBONE,
    )
