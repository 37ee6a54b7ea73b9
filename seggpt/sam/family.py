"""The model of a SAM config: SAM or one of its relatives."""

from flax import nnx

from seggpt.config import SAMConfig, SAMDecoder
from seggpt.sam.efficient_sam import EfficientSAM
from seggpt.sam.hq import HQSAM
from seggpt.sam.model import SAM

_MODELS: dict[SAMDecoder, type[SAM]] = {"sam": SAM, "hq": HQSAM, "efficient": EfficientSAM}


def make_sam(config: SAMConfig, *, rngs: nnx.Rngs) -> SAM:
    """Build the model that a config is of."""
    return _MODELS[config.decoder](config, rngs=rngs)
