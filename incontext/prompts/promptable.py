"""A model for points, boxes and masks: encode a picture once, ask any number of times."""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Self, Unpack

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PyTree
from numpy.typing import ArrayLike

from incontext.device import choose_device, default_dtype, enable_compile_cache
from incontext.examples.encoded import EncodedPicture, Source, load_source
from incontext.examples.in_context_engine import load_in_context
from incontext.files.images import PictureOptions
from incontext.hub import check_no_encoder, find_own_encoder, find_source
from incontext.options import Dtype, check_choice
from incontext.prompts.answers import Answer
from incontext.prompts.checks import Prompts, check_prompts
from incontext.prompts.engine import HeadsEngine, PromptEngine, SAMEngine
from seggpt.config import IN_CONTEXT_MODEL, SAM_MODEL, InContextConfig, SAMConfig
from seggpt.errors import CheckpointError, PromptError
from seggpt.frame import Frame
from seggpt.pretrained import MATCHING
from seggpt.prompts import Slots, make_slots
from seggpt.weights.published import load_published

FILES = (
    "give a SAM checkpoint: sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth, sam_vit_h_4b8939.pth, a "
    "Hugging Face folder such as facebook/sam-vit-base, or what seggpt convert made of one; or a "
    "relative's: sam_hq_vit_b.pth, mobile_sam.pt, efficient_sam_vitt.pt"
)


@dataclass(frozen=True, eq=False, repr=False)
class EncodedImage:
    """A picture as a model remembers it; nothing changes it, so threads may share it."""

    embedding: PyTree
    frame: Frame
    model: str
    cell: int
    """Pixels of a mask along a side of a patch."""
    patch: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self.frame.size

    @property
    def mask_shape(self) -> tuple[int, int]:
        """(height, width) of the low-resolution masks."""
        height, width = (self.cell * extent // self.patch for extent in self.frame.outer)
        return height, width


class OnPromptable:
    """Something that asks a promptable model, and loads it with itself."""

    def __init__(self, model: "Promptable", **options: Any) -> None:
        raise NotImplementedError

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        encoder: str | PathLike[str] | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
        **options: Any,
    ) -> Self:
        """Load weights as `Promptable.from_pretrained` does; `options` are the class's own.

        Raises:
            CheckpointError: if there are no such weights, or they have no heads for prompts.
            DeviceError: if there is no such device.
        """
        model = Promptable.from_pretrained(
            name_or_path, encoder=encoder, device=device, dtype=dtype
        )
        return cls(model, **options)


class Promptable:
    """A model ready for prompts. It never changes, so any number of threads may share it."""

    def __init__(self, engine: PromptEngine, *, metadata: Mapping[str, str] | None = None) -> None:
        self.engine = engine
        self.metadata = dict(metadata or {})
        self._decode = jax.jit(self._decode_all)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        encoder: str | PathLike[str] | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
    ) -> "Promptable":
        """Load the weights of a promptable model: shipped ones by name, or a file or folder.

        `dtype` is that of the image encoder, by default float32 on a CPU and bfloat16 elsewhere.
        `encoder` is for weights on one of their own, as for `Segmenter.from_pretrained`.

        Raises:
            CheckpointError: if there are no such weights, or they are damaged, or of a model
                without heads for prompts.
            DeviceError: if there is no such device.
        """
        if dtype is not None:
            check_choice("dtype", dtype, Dtype)
        enable_compile_cache()
        place = choose_device(device)  # a wrong name must not wait for the weights
        if name_or_path == MATCHING:
            raise CheckpointError(
                f"{MATCHING} mode has no heads for points and boxes; use the shipped weights"
            )
        path = find_source(name_or_path)
        loaded = load_published(path, family="sam")
        chosen = dtype or default_dtype(place)
        try:
            if loaded.config.get("model") == IN_CONTEXT_MODEL:
                config = InContextConfig.from_dict(loaded.config)
                engine = load_in_context(
                    config,
                    loaded.params,
                    loaded.metadata,
                    encoder=find_own_encoder(path, loaded.metadata, encoder),
                    device=place,
                    dtype=chosen,
                )
                return cls(make_heads(engine, config, loaded.params), metadata=loaded.metadata)
            if loaded.config.get("model") != SAM_MODEL:
                raise CheckpointError(f"no heads for points and boxes; {FILES}")
            check_no_encoder(encoder)
            config = SAMConfig.from_dict(loaded.config)
            engine = SAMEngine(config, loaded.params, device=place, dtype=chosen)
            return cls(engine, metadata=loaded.metadata)
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others."""
        return self.engine.fingerprint

    @property
    def device(self) -> Any:
        """Where it runs."""
        return self.engine.device

    def encode(self, image: Source, **options: Unpack[PictureOptions]) -> EncodedImage:
        """Encode one picture; by far the longest step, done once for all prompts.

        What `Segmenter.encode` made of a picture with the same encoder is not encoded again.
        `options` are those of `incontext.files.images.load_image`: max_pixels, alpha, bands.

        Raises:
            InputError: if the picture cannot be used.
        """
        picture = image if isinstance(image, EncodedPicture) else load_source(image, **options)
        embedding, frame = self.engine.encode(picture)
        engine = self.engine
        return EncodedImage(embedding, frame, engine.fingerprint, engine.cell, engine.patch)

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

        Points, boxes and masks that come together make one prompt: (k, 2), (4,) and
        `state.mask_shape`, or each with an axis in front for several. `multimask` gives three
        masks, from part to whole, and is for a prompt that may mean several things: one point,
        mostly. Without it there is one, which is better where the prompt is clear.

        Raises:
            PromptError: if a prompt makes no sense, there is none, or the picture was encoded by
                another model.
        """
        check_model(state.model, self, what="picture")
        prompts = check_prompts(
            points, labels, boxes, mask, size=state.size, mask_shape=state.mask_shape
        )
        self.engine.check(prompts)
        slots = place_prompts(prompts, state.frame)
        count = len(slots.labels)
        # Prompts are rounded up to a power of two, so that few programs serve all numbers.
        spare = (1 << (count - 1).bit_length()) - count
        coords, kinds, masks = (
            a if a is None else np.concatenate([a, np.repeat(a[-1:], spare, axis=0)])
            for a in (slots.coords, slots.labels, prompts.masks)
        )
        low_res, scores = self._decode(self.engine.params, state.embedding, coords, kinds, masks)
        answer = Answer(
            low_res=np.asarray(low_res)[:count],
            scores=np.asarray(scores)[:count],
            frame=state.frame,
        )
        return answer.pick(slice(1, None) if multimask else slice(0, 1))

    def _decode_all(
        self,
        params: PyTree,
        embedding: PyTree,
        coords: Float[Array, "p s 2"],
        labels: Int[Array, "p s"],
        mask: Float[Array, "p h w"] | None,
    ) -> tuple[Float[Array, "p 4 h w"], Float[Array, "p 4"]]:
        found = self.engine.look(params, embedding, coords, labels, mask=mask)
        return self.engine.draw(params, embedding, found), self.engine.scores(params, found)


def make_heads(engine: Any, config: InContextConfig, params: Mapping[Any, Any]) -> HeadsEngine:
    """Return the heads of an in-context model on its engine.

    Raises:
        CheckpointError: if the weights have none.
    """
    if config.prompts is None:
        raise CheckpointError(f"a model of examples, without heads for points and boxes; {FILES}")
    return HeadsEngine(config.prompts, params["prompts"], engine)


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
    """Bring prompts to what the model sees, and to slots."""
    boxes = prompts.boxes
    if boxes is not None:
        boxes = frame.place(boxes.reshape(-1, 2, 2)).reshape(-1, 4)
    return make_slots(frame.place_pixels(prompts.points), prompts.labels, boxes)
