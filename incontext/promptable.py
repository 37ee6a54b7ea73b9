"""A model for points, boxes and masks: encode a picture once, ask any number of times."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from os import PathLike
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from incontext.hub import find_source
from incontext.images import ImageSource, load_image
from incontext.prompt_rules import Prompts, check_prompts
from incontext.runtime import choose_device, enable_compile_cache
from seggpt.canvas import normalize
from seggpt.config import SAMConfig
from seggpt.errors import CheckpointError, PromptError
from seggpt.frame import Frame
from seggpt.pretrained import shipped_weights
from seggpt.prompts import Slots, make_slots
from seggpt.sam import SAM
from seggpt.weights.graft import graft
from seggpt.weights.published import load_published

FILES = (
    "give a SAM checkpoint: sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth, a "
    "Hugging Face folder such as facebook/sam-vit-base, or what seggpt convert made of one"
)
_ENCODER = ("vit", "neck")
_BAND_VALUES = 1 << 22  # full-size logits held at a time: 16 MiB


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImage:
    """A picture as a model remembers it; nothing changes it, so threads may share it."""

    embedding: Float[Array, "1 gh gw d"]
    frame: Frame
    model: str

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self.frame.size


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Answer:
    """The masks of one or more prompts about one picture.

    Attributes:
        low_res: Logits in the model's square; what a later prompt takes as its mask.
        scores: The IoU with the truth that the model expects; may exceed 0..1 a little.
        frame: Where the picture lies in the square.
    """

    low_res: Float32[np.ndarray, "p c m m"]
    scores: Float32[np.ndarray, "p c"]
    frame: Frame

    def logits(self) -> Float32[np.ndarray, "p c h w"]:
        """Compute the logits in the size of the picture: 4 bytes a pixel and mask."""
        full = np.empty((*self.low_res.shape[:2], *self.frame.size), np.float32)
        for index, rows, band in self._bands():
            full[index][rows] = band
        return full

    def masks(self) -> Bool[np.ndarray, "p c h w"]:
        """Compute the masks in the size of the picture, a band of rows at a time."""
        full = np.empty((*self.low_res.shape[:2], *self.frame.size), bool)
        for index, rows, band in self._bands():
            np.greater(band, 0.0, out=full[index][rows])
        return full

    def best(self) -> "Answer":
        """Keep the mask with the highest score of each prompt."""
        rows, places = np.arange(len(self.scores)), self.scores.argmax(axis=1)
        return Answer(
            low_res=self.low_res[rows, places][:, None],
            scores=self.scores[rows, places][:, None],
            frame=self.frame,
        )

    def _bands(self) -> Iterator[tuple[tuple[int, ...], slice, Float32[np.ndarray, "rows w"]]]:
        """Yield where a mask lies among all, some of its rows, and their logits."""
        down, across = self.frame.upsampling(self.low_res.shape[-1])
        height, width = self.frame.size
        step = max(1, _BAND_VALUES // width)
        for index in np.ndindex(*self.low_res.shape[:2]):
            for top in range(0, height, step):
                rows = slice(top, min(top + step, height))
                yield index, rows, (down[rows] @ self.low_res[index]) @ across.T


class Promptable:
    """A model ready for prompts. It never changes, so any number of threads may share it."""

    def __init__(
        self,
        config: SAMConfig,
        params: Mapping[Any, Any],
        *,
        metadata: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
    ) -> None:
        self.config = config
        self.metadata = dict(metadata or {})
        self.device = choose_device(device)
        abstract = nnx.eval_shape(lambda: SAM(config, rngs=nnx.Rngs(0)))
        self.graphdef, wanted = nnx.split(abstract, nnx.Param)
        tree = jax.tree.map(np.asarray, graft(nnx.as_pure(wanted), params))
        self.fingerprint = _fingerprint(config, tree)
        # The heads stay exact: they are small, and an angle in bfloat16 is no place.
        cast = jnp.dtype(dtype or ("float32" if self.device.platform == "cpu" else "bfloat16"))
        tree |= {name: jax.tree.map(lambda a: a.astype(cast), tree[name]) for name in _ENCODER}
        self.params = jax.device_put(tree, self.device)
        self._encode = jax.jit(partial(_encode, self.graphdef, cast))
        self._decode = jax.jit(partial(_decode, self.graphdef))

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
    ) -> "Promptable":
        """Load the weights of a promptable model: shipped ones by name, or a file or folder.

        `dtype` is that of the image encoder, by default float32 on a CPU and bfloat16 elsewhere.

        Raises:
            CheckpointError: if there are no such weights, or they are damaged, or of a model
                without heads for prompts.
            DeviceError: if there is no such device.
        """
        enable_compile_cache()
        path = find_source(name_or_path)
        try:
            loaded = load_published(path, family="sam")
            config = SAMConfig.from_dict(loaded.config)
        except CheckpointError as error:
            if path not in shipped_weights().values():
                raise
            raise CheckpointError(
                f"{path.stem}: no heads for points and boxes in these shipped weights; {FILES}"
            ) from error
        return cls(config, loaded.params, metadata=loaded.metadata, device=device, dtype=dtype)

    def encode(self, image: ImageSource) -> EncodedImage:
        """Encode one picture; by far the longest step, done once for all prompts.

        Raises:
            InputError: if the picture cannot be used.
        """
        picture = load_image(image)
        frame = Frame(picture.shape[:2], self.config.image_size)
        pixels = jnp.asarray(lay_in_square(picture, frame))
        embedding = self._encode(self.params, pixels, jnp.asarray(frame.inner))
        return EncodedImage(embedding, frame, self.fingerprint)

    def predict(
        self,
        state: EncodedImage,
        *,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        multimask: bool = True,
    ) -> Answer:
        """Ask for the masks of one prompt, or of several at once.

        Points, boxes and masks that come together make one prompt: (k, 2), (4,) and (side, side),
        or each with an axis in front for several. `multimask` gives three masks, from part to
        whole, and is for a prompt that may mean several things: one point, mostly. Without it
        there is one, which is better where the prompt is clear.

        Raises:
            PromptError: if a prompt makes no sense, there is none, or the picture was encoded by
                another model.
        """
        check_model(state.model, self, what="picture")
        side = self.config.mask_size
        prompts = check_prompts(points, labels, boxes, mask, size=state.size, side=side)
        slots = place_prompts(prompts, state.frame)
        count = len(slots.labels)
        # Prompts are rounded up to a power of two, so that few programs serve all numbers.
        spare = (1 << (count - 1).bit_length()) - count
        coords, kinds, masks = (
            a if a is None else np.concatenate([a, np.repeat(a[-1:], spare, axis=0)])
            for a in (slots.coords, slots.labels, prompts.masks)
        )
        low_res, scores = self._decode(self.params, state.embedding, coords, kinds, masks)
        pick = slice(1, None) if multimask else slice(0, 1)
        return Answer(
            low_res=np.asarray(low_res)[:count, pick],
            scores=np.asarray(scores)[:count, pick],
            frame=state.frame,
        )


def check_model(fingerprint: str, model: Promptable, *, what: str) -> None:
    """Make sure that what was encoded, was so by this model.

    Raises:
        PromptError: It was another one.
    """
    if fingerprint != model.fingerprint:
        raise PromptError(
            f"this {what} was encoded by model {fingerprint}, not {model.fingerprint}; encode it "
            "again"
        )


def place_prompts(prompts: Prompts, frame: Frame) -> Slots:
    """Bring prompts to the model's square, and to slots."""
    boxes = prompts.boxes
    if boxes is not None:
        boxes = frame.place(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    return make_slots(frame.place(prompts.points), prompts.labels, boxes)


def lay_in_square(
    picture: UInt8[np.ndarray, "h w 3"], frame: Frame
) -> UInt8[np.ndarray, "side side 3"]:
    """Resize a picture as SAM's authors do (Pillow's smoothed bilinear), black behind it."""
    height, width = frame.inner
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((frame.side, frame.side, 3), np.uint8)
    square[:height, :width] = np.asarray(resized)
    return square


def _encode(
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


def _decode(
    graphdef: nnx.GraphDef[SAM],
    params: Any,
    embedding: Float[Array, "1 gh gw d"],
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    mask: Float[Array, "p m m"] | None,
) -> tuple[Float[Array, "p 4 m m"], Float[Array, "p 4"]]:
    return nnx.merge(graphdef, params).decode(embedding, coords, labels, mask=mask)


def _fingerprint(config: SAMConfig, params: Any) -> str:
    """Tell weights apart by the architecture and some numbers of every array."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(leaf.reshape(-1)[:64].tobytes())
    return digest.hexdigest()[:16]
