"""The in-context model on a frozen encoder, for `Segmenter`: pictures keep their aspect ratio."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from os import PathLike
from threading import Lock
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float32, Int32, PyTree, UInt8
from PIL import Image

from incontext.device import compile_for, most_pictures
from incontext.examples.contents import Contents, HeadContext
from incontext.examples.context import LoadedExample
from incontext.examples.encoded import EncodedPicture, load_source
from incontext.examples.engine import Passes, Picture
from incontext.examples.fingerprint import fingerprint
from incontext.examples.in_context_programs import (
    Painter,
    correct_found,
    encode_example,
    encode_found,
    encode_image,
    paint_queries,
    see_pixels,
)
from incontext.examples.passes import LABELS_PER_PASS, combine_passes, share_passes
from incontext.options import Dtype
from incontext.wording import option
from seggpt.config import InContextConfig, MatchingConfig
from seggpt.encoder import Embedding, Encoder
from seggpt.errors import CheckpointError, PromptError, one_line
from seggpt.in_context.model import Cache, InContextModel, join_caches, thin_cache
from seggpt.palette import palette
from seggpt.pretrained import ENCODER, find_encoder
from seggpt.weights.encoder import LoadedEncoder, load_encoder
from seggpt.weights.graft import graft
from seggpt.weights.keys import Keys

SIZE = 448  # pixels along the longer side, of which 24 of 32 tokens were a training window's side
LEAST_SIZE, MOST_SIZE = 112, 2240
MOST_TOKENS = 6144  # of a context, as six square pictures have: each costs every query
EVEN = 2  # grids have even sides, so that pictures of nearly one shape share a compiled program


class InContextEngine:
    """A frozen encoder, and what was trained on it."""

    model: ClassVar[Callable[..., Painter]] = InContextModel

    def __init__(
        self,
        config: InContextConfig | MatchingConfig,
        params: Mapping[Any, Any],
        *,
        encoder: LoadedEncoder,
        device: Any,
        dtype: Dtype,
        size: int = SIZE,
    ) -> None:
        # Contexts are this model's whether or not it has heads for prompts beside it.
        if isinstance(config, InContextConfig):
            config = replace(config, prompts=None)
        params = {name: part for name, part in params.items() if name != "prompts"}
        self.config, self.device, self.size = config, device, size
        self.check_size(size)
        self.encoder_sha256 = encoder.sha256
        self.fingerprint = fingerprint(config.to_dict(), params, encoder.sha256)
        self.graphdef, wanted = _split(lambda: self.model(config, rngs=Keys(0)))
        self._encoder, wanted_encoder = _split(lambda: Encoder(config.encoder, rngs=Keys(0)))
        cast = jnp.dtype(dtype)
        self.params, self.encoder_params = (
            jax.device_put(jax.tree.map(lambda a: a.astype(cast), graft(to, given)), device)
            for to, given in ((wanted, params), (wanted_encoder, encoder.params))
        )
        self._encode_image = compile_for(encode_image, self._encoder)
        self._encode = compile_for(encode_example, self.graphdef)
        self._encode_found = compile_for(encode_found, self.graphdef)
        self._paint = compile_for(paint_queries, self.graphdef, static="passes")
        self._pixels = compile_for(see_pixels, self.graphdef)
        self._correct = compile_for(correct_found, self.graphdef)
        # Prompts keep pictures; each is encoded once while it lives.
        self._encoded: WeakKeyDictionary[HeadContext, Cache] = WeakKeyDictionary()
        self._lock = Lock()

    def encode_picture(self, picture: Picture) -> EncodedPicture:
        """Encode a picture, once for any number of contexts."""
        return EncodedPicture(picture, self.embed(picture), self.size, self.encoder_sha256)

    def embed(self, source: Picture | EncodedPicture) -> Embedding:
        """Return one picture as the encoder sees it."""
        return self._embed([source], self.size)

    def encode(self, examples: Sequence[LoadedExample], passes: Passes, *, seg_type: str) -> Cache:
        """Encode examples, each at its own aspect ratio; the passes are the cache's rows."""
        del seg_type  # this model has no type tokens
        caches = []
        for example in examples:
            embedding = self._embed([example.encoded or example.image], self.size)
            caches.append(self.encode_embedding(embedding, example.labels, passes))
        return thin_cache(join_caches(caches), MOST_TOKENS)

    def encode_embedding(
        self, embedding: Embedding, labels: Int32[np.ndarray, "h w"], passes: Passes
    ) -> Cache:
        """Encode one example from its picture's embedding."""
        colours = jnp.asarray(2 * pass_palette(passes) - 1)
        class_ids = [_class_ids(labels, part, embedding.image.shape[1:3]) for part in passes]
        return self._encode(self.params, embedding, np.stack(class_ids), colours)

    def encode_probabilities(
        self, embedding: Embedding, probabilities: Float32[np.ndarray, "k h w"], passes: Passes
    ) -> Cache:
        """Encode a picture with what was found in it, at the size at which it was seen."""
        shares = share_passes(probabilities, passes).transpose(0, 2, 3, 1)
        colours = jnp.asarray(2 * pass_palette(passes) - 1)
        return self._encode_found(self.params, embedding, shares, colours)

    def find(
        self,
        sources: Sequence[Picture | EncodedPicture],
        arrays: Contents,
        *,
        passes: Passes,
        seg_type: str,
        size: int,
    ) -> list[Float32[np.ndarray, "k _ _"]]:
        """Return what the passes found, brought together and corrected by a prompt's heads."""
        del seg_type
        heads = arrays.heads if isinstance(arrays, HeadContext) else None
        cache, found = self.cache_of(arrays, passes), []
        for embedding in self._embeddings(sources, size):
            found += self.find_embedded(embedding, cache, passes, heads=heads)
        return found

    def find_embedded(
        self, embedding: Embedding, cache: Cache, passes: Passes, *, heads: PyTree | None = None
    ) -> list[Float32[np.ndarray, "k _ _"]]:
        """Return what `find` does of encoded pictures."""
        painted = self._paint(self.params, cache, embedding, passes=len(passes))
        found = [self._combine(row, passes) for row in np.asarray(painted)]
        if heads is None:
            return found
        rows = [jax.tree.map(lambda a, i=i: a[i : i + 1], embedding) for i in range(len(found))]
        return [self.correct(row, one, heads) for row, one in zip(rows, found, strict=True)]

    def correct(
        self, embedding: Embedding, probabilities: Float32[np.ndarray, "k h w"], heads: PyTree
    ) -> Float32[np.ndarray, "k h w"]:
        """Apply a prompt's heads to what was found in one picture."""
        return np.asarray(self._correct(self.params, heads, embedding, probabilities))

    def head_inputs(self, embedding: Embedding) -> tuple[Array, Array]:
        """Return an image's tokens as a grid, and its pixels' features at stride 4."""
        return self._pixels(self.params, embedding)

    def count_gflop(self, arrays: Cache) -> float:
        """Return the GFLOP of a square picture with encoded examples, before XLA optimises.

        The graph for an accelerator is counted: those for CPUs have loops, whose bodies count once.
        """
        image = jax.ShapeDtypeStruct((1, self.size, self.size, 3), jnp.uint8)
        embedding = jax.eval_shape(self._encode_image, self.encoder_params, image)
        traced = (
            self._encode_image.trace(self.encoder_params, image),
            self._paint.trace(self.params, arrays, embedding, passes=len(arrays.colours)),
        )
        costs = [t.lower(lowering_platforms=("tpu",)).cost_analysis() or {} for t in traced]
        return sum(float(cost.get("flops", 0)) for cost in costs) / 1e9

    def cache_of(self, arrays: Contents, passes: Passes) -> Cache:
        """Return a context's encoded examples; kept pictures are encoded when first asked for."""
        if isinstance(arrays, Cache):
            return arrays
        assert isinstance(arrays, HeadContext)  # whose fingerprint was checked
        with self._lock:
            if arrays not in self._encoded:
                pairs = zip(arrays.images, arrays.maps, strict=True)
                kept = [LoadedExample(image, labels) for image, labels in pairs]
                parts = [self.encode(kept, passes, seg_type="semantic")] if kept else []
                parts += [arrays.more] if arrays.more is not None else []
                self._encoded[arrays] = join_caches(parts)
            return self._encoded[arrays]

    def _combine(
        self, painted: Float32[np.ndarray, "passes h w c"], passes: Passes
    ) -> Float32[np.ndarray, "k h w"]:
        """Return the probabilities that the colours of one picture's passes mean."""
        colors = palette(max(len(part) for part in passes))
        return combine_passes(np.clip(0.5 * (painted + 1), 0, 1), passes, colors)

    def fit(self, picture: Picture, size: int) -> tuple[int, int]:
        """Return the height and width in pixels at which a picture is seen."""
        return fit_size(picture.shape[:2], size, self.config.encoder.patch_size)

    def check_size(self, size: int) -> None:
        """Make sure that pictures can be seen at a size.

        Raises:
            PromptError: if it is too small or too large, or patches do not divide it.
        """
        patch = EVEN * self.config.encoder.patch_size
        if not LEAST_SIZE <= size <= MOST_SIZE or size % patch:
            raise PromptError(
                f"size {size} is not a multiple of {patch} in {LEAST_SIZE}..{MOST_SIZE}; "
                f"the default is {SIZE}"
            )

    def batch_size(self, arrays: Contents, *, passes: int, seg_type: str, size: int) -> int:
        """Return 1 on a CPU, which one picture fills, and a few elsewhere."""
        del arrays, passes, seg_type, size
        return 1 if self.device.platform == "cpu" else min(8, most_pictures(self.device))

    def _embeddings(
        self, sources: Sequence[Picture | EncodedPicture], size: int
    ) -> Iterator[Embedding]:
        """Yield encoded pictures, those of one shape that follow each other together."""
        for _, group in groupby(sources, key=lambda source: self.fit(load_source(source), size)):
            yield self._embed(list(group), size)

    def _embed(self, sources: Sequence[Picture | EncodedPicture], size: int) -> Embedding:
        """Return pictures of one shape as they were encoded, or encode them."""
        known = [
            s.embedding for s in sources if isinstance(s, EncodedPicture) and self._fits(s, size)
        ]
        if len(known) < len(sources):
            return self._encode_images([load_source(source) for source in sources], size)
        return jax.tree.map(lambda *rows: jnp.concatenate(rows), *known)

    def _fits(self, encoded: EncodedPicture, size: int) -> bool:
        return (encoded.size, encoded.encoder) == (size, self.encoder_sha256)

    def _encode_images(self, pictures: Sequence[Picture], size: int) -> Embedding:
        resized = [_resize(picture, self.fit(picture, size)) for picture in pictures]
        return self._encode_image(self.encoder_params, np.stack(resized))


def load_in_context(
    config: InContextConfig,
    params: Mapping[Any, Any],
    metadata: Mapping[str, str],
    *,
    encoder: str | PathLike[str] | None = None,
    device: Any,
    dtype: Dtype,
    size: int | None = None,
) -> InContextEngine:
    """Return a model on an encoder, by default on the one that its file names.

    Raises:
        CheckpointError: if its encoder is not there, or is another one.
        PromptError: if it cannot see pictures at that size.
    """
    found = find_encoder(metadata.get("encoder") if encoder is None else encoder)
    loaded = load_encoder(found)
    if loaded.sha256 != metadata.get("encoder_sha256"):
        mend = f"give the other one with {option('encoder', 'PATH')}"
        if found == ENCODER:
            mend += ", or install the version of seggpt that they were made with"
        raise CheckpointError(
            f"these weights stand on the encoder {one_line(metadata.get('encoder', '?'))} with "
            f"SHA-256 {one_line(metadata.get('encoder_sha256', '?'))}, and {found} has "
            f"{loaded.sha256}; {mend}"
        )
    chosen = SIZE if size is None else size
    return InContextEngine(config, params, encoder=loaded, device=device, dtype=dtype, size=chosen)


def fit_size(picture: tuple[int, ...], size: int, patch_size: int) -> tuple[int, int]:
    """Return height and width in pixels: the longer is `size`, both an even number of patches."""
    step = EVEN * patch_size
    scale = size / max(picture)
    height, width = (max(step, round(extent * scale / step) * step) for extent in picture)
    return height, width


def pass_palette(passes: Passes) -> Float32[np.ndarray, "k 3"]:
    """Return the colours of a pass, RGB in 0..1, filled up to as many as in training."""
    colours = palette(max(len(part) for part in passes))
    return np.pad(colours, ((0, LABELS_PER_PASS + 1 - len(colours)), (0, 0)))


def _class_ids(
    labels: Int32[np.ndarray, "h w"], part: Sequence[int], shape: tuple[int, ...]
) -> Int32[np.ndarray, "h2 w2"]:
    """Return which colour of a pass each pixel of the resized picture has (nearest)."""
    class_ids = np.zeros(labels.shape, np.uint8)
    for class_id, label in enumerate(part, 1):
        class_ids[labels == label] = class_id
    height, width = shape
    resized = Image.fromarray(class_ids).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized, np.int32)


def _resize(picture: Picture, shape: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = shape
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))


def _split(make: Any) -> tuple[Any, Any]:
    graphdef, wanted = nnx.split(nnx.eval_shape(make), nnx.Param)
    return graphdef, nnx.as_pure(wanted)
