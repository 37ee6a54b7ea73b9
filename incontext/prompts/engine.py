"""The interface behind a promptable model: encode, decode prompts; for SAM and our heads."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int, PyTree, UInt8
from PIL import Image

from incontext.device import compile_for
from incontext.examples.encoded import EncodedPicture, Source, load_source
from incontext.examples.fingerprint import fingerprint
from incontext.examples.in_context_engine import InContextEngine
from incontext.options import Dtype
from incontext.prompts.checks import Prompts, check_learned
from seggpt.canvas import normalize
from seggpt.config import MASK_STRIDE, PromptHeadsConfig, SAMConfig
from seggpt.encoder import Embedding
from seggpt.frame import Frame
from seggpt.prompts import Guidance
from seggpt.prompts.heads import PromptEmbedding, PromptHeads
from seggpt.sam.family import make_sam
from seggpt.sam.model import PIXELS, SAM
from seggpt.stem import Stem
from seggpt.weights.graft import graft
from seggpt.weights.keys import Keys

Looked = PyTree
"""What a prompt and a picture found in each other, for masks and scores to be made of."""


@runtime_checkable  # tests check annotations
class PromptEngine(Protocol):
    """One family of models behind `Promptable`; immutable.

    `look`, `draw` and `scores` are pure functions for programs that are compiled around them.
    """

    device: Any
    params: PyTree
    fingerprint: str
    cell: int
    """Pixels of a mask along a side of a patch."""
    patch: int
    """Pixels along a side of a patch."""
    thresholds: tuple[float, float]
    """Predicted IoU and stability that everything mode asks of a mask, unless it is told."""

    def check(self, prompts: Prompts) -> None:
        """Make sure that the model has learned such prompts.

        Raises:
            PromptError: if it has not.
        """

    def encode(self, source: Source) -> tuple[PyTree, Frame]:
        """Encode a picture, and say how it lies in what the model sees."""
        ...

    def patches(self, embedding: PyTree) -> Float32[np.ndarray, "gh gw d"]:
        """Return what the heads know of each patch before any prompt."""
        ...

    def look(
        self,
        params: PyTree,
        embedding: PyTree,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> Looked:
        """Let prompts and a picture look at each other."""

    def draw(
        self,
        params: PyTree,
        embedding: PyTree,
        found: Looked,
        *,
        part: tuple[int, int] | None = None,
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks of what was found, of all or of the first rows and columns of patches."""
        ...

    def scores(self, params: PyTree, found: Looked) -> Float[Array, "p 4"]:
        """Return each mask's predicted IoU."""
        ...


class SAMEngine:
    """SAM and its relatives: pictures lie in a square, the rest of which is mostly empty."""

    cell = PIXELS
    thresholds = (0.88, 0.95)  # SamAutomaticMaskGenerator's defaults

    def __init__(
        self, config: SAMConfig, params: Mapping[Any, Any], *, device: Any, dtype: Dtype
    ) -> None:
        self.config, self.device, self.patch = config, device, config.patch_size
        abstract = nnx.eval_shape(lambda: make_sam(config, rngs=Keys(0)))
        self.graphdef, wanted = nnx.split(abstract, nnx.Param)
        tree = jax.tree.map(np.asarray, graft(nnx.as_pure(wanted), params))
        self.fingerprint = fingerprint(config.to_dict(), tree)
        # The heads stay in float32: bfloat16 has too few digits for encodings of places.
        encoder = {name: tree[name] for name in type(abstract).encoder}
        cast = jnp.dtype(dtype)
        tree |= jax.tree.map(lambda a: a.astype(cast), encoder)
        self.params = jax.device_put(tree, device)
        self._encode = compile_for(_encode_square, self.graphdef, cast)

    def check(self, prompts: Prompts) -> None:
        """Make sure that the model has learned such prompts.

        Raises:
            PromptError: if it has not.
        """
        check_learned(prompts, self.config)

    def encode(self, source: Source) -> tuple[Float[Array, "1 gh gw d"], Frame]:
        """Encode a picture."""
        picture, side = load_source(source), self.config.image_size
        frame = Frame.in_square(picture.shape[:2], side, squeeze=self.config.squeezes)
        pixels = jnp.asarray(lay_in_square(picture, frame))
        return self._encode(self.params, pixels, jnp.asarray(frame.inner)), frame

    def patches(self, embedding: Float[Array, "1 gh gw e"]) -> Float32[np.ndarray, "gh gw d"]:
        """Return the image encoder's output; some models keep more of a picture behind it."""
        return np.asarray(embedding[0, ..., : self.config.prompt_width])

    def look(
        self,
        params: PyTree,
        embedding: Float[Array, "1 gh gw d"],
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> Looked:
        """Let prompts and a picture look at each other."""
        model = nnx.merge(self.graphdef, params)
        return model.look(embedding, coords, labels, mask=mask, guidance=guidance)

    def draw(
        self,
        params: PyTree,
        embedding: Array,
        found: Looked,
        *,
        part: tuple[int, int] | None = None,
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks, or of their first rows and columns of patches only."""
        model, (tokens, image) = nnx.merge(self.graphdef, params), found
        gh, gw = embedding.shape[1:3]
        part = part or (gh, gw)
        rows, cols = min(part[0] + model.reach, gh), min(part[1] + model.reach, gw)
        image = image.reshape(len(image), gh, gw, -1)[:, :rows, :cols]
        masks = model.draw(tokens, image.reshape(len(image), rows * cols, -1), shape=(rows, cols))
        return masks[..., : self.cell * part[0], : self.cell * part[1]]

    def scores(self, params: PyTree, found: Looked) -> Float[Array, "p 4"]:
        """Return each mask's predicted IoU."""
        return nnx.merge(self.graphdef, params).mask_decoder.scores(found[0])


class HeadsEngine:
    """Heads on an in-context model's encoder, whose encoded pictures they share."""

    # Chosen on pictures of training sets. These heads expect less of themselves than SAM's do.
    thresholds = (0.4, 0.3)

    def __init__(
        self, config: PromptHeadsConfig, params: Mapping[Any, Any], engine: InContextEngine
    ) -> None:
        self.engine, self.device = engine, engine.device
        encoder = engine.config.encoder
        self.patch = encoder.patch_size
        self.cell = self.patch // MASK_STRIDE
        heads = nnx.eval_shape(lambda: PromptHeads(config, encoder, rngs=Keys(0)))
        stem = nnx.eval_shape(lambda: Stem(rngs=Keys(0)))
        self.graphdef, wanted = nnx.split(heads, nnx.Param)
        tree = graft(nnx.as_pure(wanted), params)
        # In float32: bfloat16 has too few digits for encodings of places.
        self.params = jax.device_put(jax.tree.map(jnp.float32, tree), self.device)
        self.fingerprint = fingerprint(config.to_dict(), tree, engine.fingerprint)
        self._read = compile_for(_read_embedding, self.graphdef, nnx.graphdef(stem))

    def check(self, prompts: Prompts) -> None:
        """Take all kinds of prompts."""

    def encode(self, source: Source) -> tuple[PromptEmbedding, Frame]:
        """Read an encoded picture, or encode it first."""
        picture = load_source(source)
        encoded = source if isinstance(source, EncodedPicture) else picture
        embedding = self.engine.embed(encoded)
        _, height, width, _ = embedding.image.shape
        frame = Frame.filled(picture.shape[:2], (height, width))
        return self._read(self.params, self.engine.params["stem"], embedding), frame

    def patches(self, embedding: PromptEmbedding) -> Float32[np.ndarray, "gh gw d"]:
        """Return the tokens as a grid."""
        return np.asarray(embedding.tokens[0]).reshape(*embedding.grid, -1)

    def look(
        self,
        params: PyTree,
        embedding: PromptEmbedding,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        *,
        mask: Float[Array, "p h w"] | None = None,
        guidance: Guidance | None = None,
    ) -> Looked:
        """Let prompts and a picture look at each other."""
        model = nnx.merge(self.graphdef, params)
        return model.look(embedding, coords, labels, mask=mask, guidance=guidance)

    def draw(
        self,
        params: PyTree,
        embedding: PromptEmbedding,
        found: Looked,
        *,
        part: tuple[int, int] | None = None,
    ) -> Float[Array, "p 4 h w"]:
        """Draw the masks; the picture fills all of what the model sees."""
        del part
        return nnx.merge(self.graphdef, params).draw(embedding, found)

    def scores(self, params: PyTree, found: Looked) -> Float[Array, "p 4"]:
        """Return each mask's predicted IoU."""
        return nnx.merge(self.graphdef, params).scores(found)


def lay_in_square(
    picture: UInt8[np.ndarray, "h w 3"], frame: Frame
) -> UInt8[np.ndarray, "side side 3"]:
    """Resize a picture as SAM's authors do (Pillow's smoothed bilinear), black behind it."""
    height, width = frame.inner
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((*frame.outer, 3), np.uint8)
    square[:height, :width] = np.asarray(resized)
    return square


def _encode_square(
    graphdef: nnx.GraphDef[SAM],
    dtype: np.dtype,
    params: Any,
    pixels: UInt8[Array, "side side 3"],
    inner: Int[Array, " 2"],
) -> Float[Array, "1 gh gw d"]:
    """Normalise and encode; the empty part is zero after normalising, as in training."""
    rows, cols = (jnp.arange(pixels.shape[0]) < extent for extent in inner)
    image = normalize(pixels / 255.0) * (rows[:, None] & cols)[..., None]
    embedding = nnx.merge(graphdef, params).encode(image[None].astype(dtype))
    return embedding.astype(jnp.float32)


def _read_embedding(
    graphdef: nnx.GraphDef[PromptHeads],
    stem_graphdef: nnx.GraphDef[Stem],
    params: PyTree,
    stem: PyTree,
    embedding: Embedding,
) -> PromptEmbedding:
    pyramid = nnx.merge(stem_graphdef, stem)(embedding.image)
    return nnx.merge(graphdef, params).encode(embedding, pyramid)
