"""The interface behind a segmenter: encode examples, segment images; and SegGPT behind it."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float32, UInt8

from incontext.device import choose_batch, compile_for, most_pictures
from incontext.examples.contents import Contents, Encoded, Pixels
from incontext.examples.context import LoadedExample
from incontext.examples.encoded import EncodedPicture, load_source
from incontext.examples.fingerprint import fingerprint
from incontext.examples.painting import encode_examples, paint_passes, paint_queries
from incontext.examples.passes import combine_passes
from incontext.examples.squares import labels_to_square, to_square
from incontext.options import Dtype
from seggpt.canvas import denormalize, normalize
from seggpt.config import SegGPTConfig
from seggpt.errors import PromptError
from seggpt.model import INSTANCE, SEMANTIC, SegGPT
from seggpt.palette import palette
from seggpt.weights.graft import graft
from seggpt.weights.keys import Keys

Passes = Sequence[Sequence[int]]
KINDS = {"semantic": SEMANTIC, "instance": INSTANCE}
Picture = UInt8[np.ndarray, "_ _ 3"]


@runtime_checkable  # tests check annotations
class Engine(Protocol):
    """One family of models behind `Segmenter`; immutable."""

    size: int
    """Pixels along the longer side of a picture as the model sees it."""

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others."""
        ...

    def encode(
        self, examples: Sequence[LoadedExample], passes: Passes, *, seg_type: str
    ) -> Contents:
        """Return what a context keeps of examples, for each pass."""
        ...

    def find(
        self,
        sources: Sequence[Picture | EncodedPicture],
        arrays: Contents,
        *,
        passes: Passes,
        seg_type: str,
        size: int,
    ) -> list[Float32[np.ndarray, "k _ _"]]:
        """Return the probabilities of background and labels, as many together as it can."""
        ...

    def check_size(self, size: int) -> None:
        """Make sure that pictures can be seen at a size.

        Raises:
            PromptError: if not, with the mend.
        """

    def batch_size(self, arrays: Contents, *, passes: int, seg_type: str, size: int) -> int:
        """Return how many pictures at a time fit the device and gain time."""
        ...


class SegGPTEngine:
    """SegGPT and Painter: pictures are squeezed to squares of one size."""

    def __init__(
        self, config: SegGPTConfig, params: Mapping[Any, Any], *, device: Any, dtype: Dtype
    ) -> None:
        self.config = config
        self.size = config.image_size
        self.device = device
        abstract = nnx.eval_shape(lambda: SegGPT(config, rngs=Keys(0)))
        self.graphdef, wanted = nnx.split(abstract, nnx.Param)
        tree = graft(nnx.as_pure(wanted), jax.tree.map(np.asarray, params))
        self.fingerprint = fingerprint(config.to_dict(), tree)
        cast = jnp.dtype(dtype)
        self.params = jax.device_put(jax.tree.map(lambda a: a.astype(cast), tree), device)
        self._encode = compile_for(encode_examples, self.graphdef)
        self._paint = compile_for(paint_queries, self.graphdef, static="passes")

    def encode(
        self, examples: Sequence[LoadedExample], passes: Passes, *, seg_type: str
    ) -> Encoded | Pixels:
        """Return cached keys and values, or the examples as they are."""
        images = np.stack([to_square(e.image, self.size) for e in examples])
        maps = np.stack([labels_to_square(e.labels, self.size) for e in examples])
        pixels = jnp.asarray(np.broadcast_to(images, (len(passes), *images.shape)))
        targets = normalize(paint_passes(maps, passes))
        return self._encode(self.params, normalize(pixels), targets, KINDS[seg_type])

    def find(
        self,
        sources: Sequence[Picture | EncodedPicture],
        arrays: Contents,
        *,
        passes: Passes,
        seg_type: str,
        size: int,
    ) -> list[Float32[np.ndarray, "k _ _"]]:
        """Return what the passes found, brought together."""
        squares = [to_square(load_source(source), size) for source in sources]
        queries = normalize(jnp.asarray(np.stack(squares)))
        rows = self._paint(self.params, arrays, queries, KINDS[seg_type], passes=len(passes))
        rgb = np.clip(np.asarray(denormalize(rows)), 0, 1)
        painted = list(rgb.reshape(len(sources), len(passes), *rgb.shape[1:]))
        colors = palette(max(len(part) for part in passes))
        return [combine_passes(rgb, passes, colors) for rgb in painted]

    @property
    def sees_other_sizes(self) -> bool:
        """Whether queries may have another size than the examples."""
        return self.config.attention == "prefix" and not self.config.rel_pos

    def check_size(self, size: int) -> None:
        """Make sure that pictures can be seen at a size.

        Raises:
            PromptError: if the model has one size alone, or its patches do not divide this one.
        """
        if size != self.size and not self.sees_other_sizes:
            raise PromptError(
                f"this model sees pictures at {self.size} pixels alone, not at {size}; leave "
                "--size and detail large out, or use detail tiles"
            )
        if size < self.config.patch_size or size % self.config.patch_size:
            raise PromptError(f"size {size} is not a multiple of {self.config.patch_size}")

    def batch_size(self, arrays: Contents, *, passes: int, seg_type: str, size: int) -> int:
        """Compile for the largest batch worth trying, and say how much of it fits."""
        tried = most_pictures(self.device)
        queries = jax.ShapeDtypeStruct((tried, size, size, 3), jnp.float32)
        lowered = self._paint.lower(self.params, arrays, queries, KINDS[seg_type], passes=passes)
        return choose_batch(lowered.compile(), tried=tried, device=self.device)
