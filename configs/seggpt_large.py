"""SegGPT as published: ViT-L at 448 pixels, both streams in one ViT, mutual attention.

    python -m train --config configs/seggpt_large.py --data PATH --out runs/large \
        --set init=painter.safetensors

PATH holds what `data.prepare` makes of the paper's thirteen data sets (`configs/mixture.py`).
Batch, steps, warm-up, rate and weight decay are those of the paper (arXiv 2304.03284, section
4.2), which starts from Painter. What it does not say is as in Painter's code: half of a canvas'
patches are hidden in blocks, in a tenth of the samples the query's half, rates fall by 0.8 a
block, the norm of a gradient is at most 3, stochastic depth rises to 0.1. Neither tells how colours
are drawn. `init` may also be an encoder of this size, such as a masked autoencoder's. Not yet run
at full length.
"""

from configs.mixture import AUGMENT, PAIRS
from data.config import DataConfig
from seggpt.config import SegGPTConfig
from train.config import LossConfig, OptimConfig, TrainConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=SegGPTConfig.large(),
        data=DataConfig(
            pack_size=512,
            sprites=0,
            pairs=PAIRS,
            augment=AUGMENT,
        ),
        optim=OptimConfig(
            lr=1e-4,
            warmup=1800,
            weight_decay=0.05,
            betas=(0.9, 0.999),
            clip=3.0,
            layer_decay=0.8,
        ),
        loss=LossConfig(beta=(0.01, 0.01), balance=(0.0, 0.0)),
        steps=9000,
        batch_size=2048,
        shots=((1, 1.0),),
        drop_path=0.1,
        half_masks=0.1,
        remat=True,
        match_init=False,
        checkpoint_every=250,
        eval_every=500,
        sheet_every=1000,
    )
