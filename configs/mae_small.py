"""Masked-image pretraining of a ViT-S/14 at 224 pixels (MAE, arXiv 2111.06377).

    python -m train --config configs/mae_small.py --data PATH --out runs/mae

The weights in the end are an encoder's: `--set init=runs/mae/weights.safetensors` of a SegGPT's
recipe starts from it, and `python -m data.feature_cache --encoder` caches its features. Rates are
those of MAE for a batch of 256 images (64 samples of four views). Not yet run at full length.
"""

from data.config import AugmentConfig, DataConfig
from seggpt.config import ENCODERS
from train.config import MaskedConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=MaskedConfig(encoder=ENCODERS["dinov2-small"], image_size=224),
        data=DataConfig(
            pack_size=288,
            sprites=0,
            augment=AugmentConfig(scale=(0.2, 1.0), tries=1, jitter=0.0, stitch=0.0),
        ),
        optim=OptimConfig(lr=1.5e-4, warmup=2000, weight_decay=0.05, betas=(0.9, 0.95)),
        steps=100_000,
        batch_size=64,
        checkpoint_every=2000,
        eval_every=2000,
        sheet_every=10_000,
    )
