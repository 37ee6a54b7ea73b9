"""What is measured of image encoders: a picture to tokens, with random weights of a size."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from incontext.bench.subjects import draw_params, measure_matmul
from incontext.device import choose_device, compile_for, default_dtype
from incontext.examples.in_context_programs import encode_image
from seggpt.config import ENCODERS
from seggpt.config.costs import count_flops
from seggpt.encoder import Encoder
from seggpt.weights.keys import Keys


class OurEncoder:
    """An encoder of a published size and a square picture, as near to `size` as patches allow."""

    def __init__(self, model: str, *, size: int, device: str | None, dtype: Any) -> None:
        config = ENCODERS[model]
        side = round(size / config.patch_size) * config.patch_size
        self._device = choose_device(device)
        self.dtype = dtype or default_dtype(self._device)
        abstract = nnx.eval_shape(lambda: Encoder(config, rngs=Keys(0)))
        cast = partial(np.asarray, dtype=jnp.dtype(self.dtype))
        self._params = jax.device_put(jax.tree.map(cast, draw_params(abstract)), self._device)
        self._encode = compile_for(encode_image, nnx.graphdef(abstract))
        self._picture = np.random.default_rng(1).integers(0, 256, (1, side, side, 3), np.uint8)
        self.device = self._device.device_kind
        self.gflop = count_flops(config, (side, side)) / 1e9
        self.matmul_gflops = measure_matmul(self._device, self.dtype)

    def __call__(self) -> None:
        """Encode the picture and wait for its tokens."""
        jax.block_until_ready(self._encode(self._params, self._picture).layers)

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        return (self._device.memory_stats() or {}).get("peak_bytes_in_use", 0)
