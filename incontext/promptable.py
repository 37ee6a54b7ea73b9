"""A model for points, boxes and masks: encode a picture once, ask any number of times."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8
from numpy.typing import ArrayLike
from PIL import Image

from incontext.answers import Answer, Closer, join_answers
from incontext.hub import find_source
from incontext.images import ImageSource, load_image
from incontext.looks import agree, choose, looks_for
from incontext.prompt_rules import Prompts, check_learned, check_prompts
from incontext.runtime import choose_device, enable_compile_cache
from incontext.settle import settle
from incontext.snap import FINE, snap
from incontext.zoom import Look
from seggpt.canvas import normalize
from seggpt.config import IN_CONTEXT_MODEL, SAM_MODEL, SAMConfig, SegGPTConfig
from seggpt.errors import CheckpointError, PromptError
from seggpt.frame import Frame
from seggpt.pretrained import PROMPTS
from seggpt.prompts import MASKS, Slots, make_slots
from seggpt.sam import SAM, PromptedSegGPT
from seggpt.sam_family import make_sam
from seggpt.weights.graft import graft
from seggpt.weights.published import load_published

FILES = (
    "give a SAM checkpoint: sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth, a "
    "Hugging Face folder such as facebook/sam-vit-base, or what seggpt convert made of one; or a "
    "relative's: sam_hq_vit_b.pth, mobile_sam.pt, efficient_sam_vitt.pt"
)


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImage:
    """A picture as a model remembers it; nothing changes it, so threads may share it.

    `picture` is kept for models that look closer (`incontext.zoom`).
    """

    embedding: Float[Array, "1 gh gw d"]
    frame: Frame
    model: str
    picture: UInt8[np.ndarray, "h w 3"] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self.frame.size


class OnPromptable:
    """Something that asks a promptable model, and loads it with itself."""

    def __init__(self, model: "Promptable", **options: Any) -> None:
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
        **options: Any,
    ) -> Self:
        """Load weights as `Promptable.from_pretrained` does; `options` are the class's own.

        Raises:
            CheckpointError: if there are no such weights, or they have no heads for prompts.
            DeviceError: if there is no such device.
        """
        model = Promptable.from_pretrained(name_or_path, device=device, dtype=dtype)
        return cls(model, **options)


class Promptable:
    """A model ready for prompts. It never changes, so any number of threads may share it."""

    def __init__(
        self,
        config: SAMConfig | SegGPTConfig,
        params: Mapping[Any, Any],
        *,
        metadata: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: Literal["float32", "bfloat16"] | None = None,
    ) -> None:
        self.config = config
        self.metadata = dict(metadata or {})
        self.device = choose_device(device)
        # Small models of our own look closer at what a prompt is about.
        self.zooms = isinstance(config, SegGPTConfig)
        abstract = nnx.eval_shape(lambda: _make(config))
        self.graphdef, wanted = nnx.split(abstract, nnx.Param)
        wanted = nnx.as_pure(wanted)
        # Weights of our own also hold the in-context model.
        given = {k: v for k, v in params.items() if k in wanted} if self.zooms else params
        tree = jax.tree.map(np.asarray, graft(wanted, given))
        self.fingerprint = _fingerprint(config, tree)
        # The heads stay exact: they are small, and an angle in bfloat16 is no place.
        cast = jnp.dtype(dtype or ("float32" if self.device.platform == "cpu" else "bfloat16"))
        encoder = {name: tree[name] for name in type(abstract).encoder}
        tree |= jax.tree.map(lambda a: a.astype(cast), encoder)
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
        path = find_source(name_or_path, default=PROMPTS)
        loaded = load_published(path, family="sam")
        try:
            if loaded.config.get("model") == SAM_MODEL:
                config = SAMConfig.from_dict(loaded.config)
            elif loaded.config.get("model") == IN_CONTEXT_MODEL:
                raise CheckpointError(
                    f"a model of examples, without heads for points and boxes; take {PROMPTS}"
                )
            else:
                config = SegGPTConfig.from_dict(loaded.config)
                if not config.prompt_width:
                    raise CheckpointError(f"no heads for points and boxes; {FILES}")
            return cls(config, loaded.params, metadata=loaded.metadata, device=device, dtype=dtype)
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    def encode(self, image: ImageSource) -> EncodedImage:
        """Encode one picture; by far the longest step, done once for all prompts.

        Raises:
            InputError: if the picture cannot be used.
        """
        picture = load_image(image)
        frame = self._frame(picture.shape[:2])
        embedding = self._encode_one(picture, frame)
        kept = picture if self.zooms else None
        return EncodedImage(embedding, frame, self.fingerprint, kept)

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
        if isinstance(self.config, SAMConfig):
            check_learned(prompts, self.config)
        wanted = slice(1, None) if multimask else slice(0, 1)
        if state.picture is None:
            return self._answer(state.embedding, state.frame, prompts).pick(wanted)
        parts = [
            self._look_closer(state, prompts.take(row), wanted)
            for row in range(len(prompts.labels))
        ]
        return join_answers(parts)

    def _look_closer(self, state: EncodedImage, prompt: Prompts, wanted: slice) -> Answer:
        """Answer one prompt by what parts of the picture show."""
        assert state.picture is not None
        looks = looks_for(prompt, state.size)
        answers = [_settled(self._answer_at(state, prompt, look), prompt) for look in looks]
        count = len(range(*wanted.indices(MASKS)))
        if len(answers) > 1:
            answer = choose(answers, count=count)
        elif count == 1 and prompt.boxes is not None and prompt.masks is None:
            answer = _settled(agree(answers[0]), prompt)
        else:
            answer = answers[0].pick(wanted)
        return _settled(_snapped(answer, state.picture), prompt)

    def _answer_at(self, state: EncodedImage, prompt: Prompts, look: Look | None) -> Answer:
        """Answer one prompt by what a part of the picture shows, or all of it."""
        if look is None:
            return self._answer(state.embedding, state.frame, prompt)
        assert state.picture is not None
        x0, y0, x1, y1 = look.box
        frame = self._frame(look.shape)
        embedding = self._encode_one(np.ascontiguousarray(state.picture[y0:y1, x0:x1]), frame)
        near = self._answer(embedding, frame, prompt.seen_by(look))
        closer = tuple(Closer(look=look, frame=frame, low_res=mask) for mask in near.low_res[0])
        low_res = look.out_of(near.low_res)
        return Answer(low_res=low_res, scores=near.scores, frame=state.frame, closer=(closer,))

    def _answer(
        self, embedding: Float[Array, "1 gh gw d"], frame: Frame, prompts: Prompts
    ) -> Answer:
        """Answer prompts about one picture with all masks there are."""
        slots = place_prompts(prompts, frame)
        count = len(slots.labels)
        # Prompts are rounded up to a power of two, so that few programs serve all numbers.
        spare = (1 << (count - 1).bit_length()) - count
        coords, kinds, masks = (
            a if a is None else np.concatenate([a, np.repeat(a[-1:], spare, axis=0)])
            for a in (slots.coords, slots.labels, prompts.masks)
        )
        low_res, scores = self._decode(self.params, embedding, coords, kinds, masks)
        return Answer(
            low_res=np.asarray(low_res)[:count], scores=np.asarray(scores)[:count], frame=frame
        )

    def _frame(self, size: tuple[int, int]) -> Frame:
        side = self.config.image_size
        if isinstance(self.config, SAMConfig):
            squeezes = self.config.squeezes
            return Frame(size, side, squeeze=squeezes, corners=squeezes)
        return Frame(size, side, squeeze=self.zooms)

    def _encode_one(
        self, picture: UInt8[np.ndarray, "h w 3"], frame: Frame
    ) -> Float[Array, "1 gh gw d"]:
        pixels = jnp.asarray(lay_in_square(picture, frame))
        return self._encode(self.params, pixels, jnp.asarray(frame.inner))


def _snapped(answer: Answer, picture: UInt8[np.ndarray, "h w 3"]) -> Answer:
    """Bring one prompt's masks to the edges of what they were seen in."""
    size = picture.shape[:2]
    finer = []
    for place, low_res in enumerate(answer.low_res[0]):
        closer = answer.closer[0][place] if answer.closer else None
        look = closer.look if closer else Look.all_of(size)
        x0, y0, x1, y1 = look.box
        snapped = snap(closer.low_res if closer else low_res, picture[y0:y1, x0:x1])
        frame = Frame(look.shape, FINE, squeeze=True)
        finer.append(Closer(look=look, frame=frame, low_res=snapped))
    return replace(answer, closer=(tuple(finer),))


def _settled(answer: Answer, prompt: Prompts) -> Answer:
    """Bring one prompt's masks into line with what it says for certain."""
    if prompt.masks is not None:  # which may be of other things, too
        return answer
    everything = Look.all_of(answer.frame.size)
    low_res = np.stack([settle(mask, prompt, everything) for mask in answer.low_res[0]])
    closer = tuple(
        closer and replace(closer, low_res=settle(closer.low_res, prompt, closer.look))
        for closer in (answer.closer[0] if answer.closer else ())
    )
    return replace(answer, low_res=low_res[None], closer=(closer,) if closer else ())


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
    return make_slots(frame.place_pixels(prompts.points), prompts.labels, boxes)


def lay_in_square(
    picture: UInt8[np.ndarray, "h w 3"], frame: Frame
) -> UInt8[np.ndarray, "side side 3"]:
    """Resize a picture as SAM's authors do (Pillow's smoothed bilinear), black behind it."""
    height, width = frame.inner
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    square = np.zeros((frame.side, frame.side, 3), np.uint8)
    square[:height, :width] = np.asarray(resized)
    return square


def _make(config: SAMConfig | SegGPTConfig) -> SAM | PromptedSegGPT:
    if isinstance(config, SAMConfig):
        return make_sam(config, rngs=nnx.Rngs(0))
    return PromptedSegGPT(config, rngs=nnx.Rngs(0))


def _encode(
    graphdef: nnx.GraphDef[SAM | PromptedSegGPT],
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
    graphdef: nnx.GraphDef[SAM | PromptedSegGPT],
    params: Any,
    embedding: Float[Array, "1 gh gw d"],
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    mask: Float[Array, "p m m"] | None,
) -> tuple[Float[Array, "p 4 m m"], Float[Array, "p 4"]]:
    return nnx.merge(graphdef, params).decode(embedding, coords, labels, mask=mask)


def _fingerprint(config: SAMConfig | SegGPTConfig, params: Any) -> str:
    """Tell weights apart by the architecture and some numbers of every array."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    for leaf in jax.tree.leaves(params):
        digest.update(leaf.reshape(-1)[:64].tobytes())
    return digest.hexdigest()[:16]
