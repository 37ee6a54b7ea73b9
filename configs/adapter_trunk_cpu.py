"""The shipped adapters' trunk: a hundred minutes on one CPU core.

    python -m train --config configs/adapter_trunk_cpu.py --data PATH --out runs/trunk
    python -m train.release_trunk runs/trunk --data PATH --command "python -m train ..."

A U-Net learns to tell the classes of all data sets, each among its own, so that an adapter
(`seggpt tune`) starts with eyes that have seen other pictures. Views of 128 pixels show from a
twelfth of a picture to all of it; adapters look at whole pictures of about 200 to 300.
"""

from data.config import AugmentConfig, DataConfig, PairsConfig
from seggpt.config import SegGPTConfig
from train.config import OptimConfig, TrainConfig, TrunkConfig


def get_config() -> TrainConfig:
    """Return the recipe."""
    return TrainConfig(
        model=SegGPTConfig.tiny(),
        trunk=TrunkConfig(),
        data=DataConfig(
            pack_size=256,
            sprites=2000,
            pairs=PairsConfig(views=2, temperature=0.6),
            augment=AugmentConfig(scale=(0.08, 1.0), stitch=0.0, own_jitter=0.0),
        ),
        optim=OptimConfig(lr=2e-3, warmup=200, ema=0.999),
        steps=11_500,
        view_size=128,
        batch_size=12,
        shots=((1, 1.0),),
        log_every=100,
        eval_every=1000,
        sheet_every=2000,
        checkpoint_every=1000,
    )
