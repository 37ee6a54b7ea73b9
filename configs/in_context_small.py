"""The shipped model, seggpt-small: an hour of features, then some hours of steps on two CPU cores.

    python -m data.feature_cache --data PATH --out CACHE
    python -m data.feature_cache --data PATH --split val --views 1 --pasted 0 --drawn 0 --out HELD
    python -m train --config configs/in_context_small.py --data CACHE --out runs/small \
        --set data.held_out=HELD

The frozen encoder's features lie in the cache (31 GB for the open sets), so that a step trains
matching, four blocks and a decoder alone.
"""

from data.config import FeaturesConfig
from data.feature_samples import SamplesConfig, Shape
from seggpt.config import InContextConfig
from train.config import LossConfig, OptimConfig, TrainConfig

# Right before any training: the encoder's features match things already.
MATCHING = ("matchings", "fine_scale", "fine_balance", "decoder.skip")
SHAPES = (
    Shape(examples=1, side=16, share=0.55),
    Shape(examples=2, side=16, share=0.22),
    Shape(examples=4, side=16, share=0.15),
    Shape(examples=1, side=24, share=0.08),
)


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=InContextConfig.small(),
        data=FeaturesConfig(samples=SamplesConfig(groups=4, shapes=SHAPES)),
        optim=OptimConfig(lr=1e-3, warmup=100, weight_decay=0.03, slow=MATCHING, ema=0.998),
        loss=LossConfig(beta=(0.5, 0.1)),
        steps=1400,
        eval_every=250,
        sheet_every=500,
        checkpoint_every=250,
    )
