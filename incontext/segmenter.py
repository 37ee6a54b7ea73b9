"""Load a model once, encode examples once, segment many pictures."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from os import PathLike
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from incontext.device import choose_device, default_dtype, enable_compile_cache
from incontext.examples.context import (
    Context,
    Ensemble,
    Example,
    SegType,
    check_labels,
    load_examples,
    split_labels,
)
from incontext.examples.detail import LARGE, Detail, blend, closer_boxes
from incontext.examples.encoded import EncodedPicture, Source, load_source
from incontext.examples.engine import Dtype, Engine, Picture, SegGPTEngine
from incontext.examples.ensemble import tile_examples
from incontext.examples.in_context_engine import InContextEngine, load_in_context
from incontext.examples.passes import LABELS_PER_PASS
from incontext.hub import find_source
from incontext.prompts.correct import correct
from incontext.prompts.promptable import Promptable, make_heads
from incontext.result import Result
from incontext.tune.config import TuneConfig
from incontext.tune.tuner import tune_prompt
from seggpt.config import IN_CONTEXT_MODEL, InContextConfig, SegGPTConfig
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights.files import is_own_file, load_weights
from seggpt.weights.published import load_published

logger = logging.getLogger(__name__)


class Segmenter:
    """A model ready to segment. It never changes, so any number of threads may share it."""

    def __init__(
        self,
        config: SegGPTConfig | InContextConfig,
        params: Mapping[Any, Any],
        *,
        metadata: Mapping[str, str] | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
        size: int | None = None,
    ) -> None:
        self.config = config
        self.metadata = dict(metadata or {})
        self.device = choose_device(device)
        self.dtype: Dtype = dtype or default_dtype(self.device)
        self.engine = _make_engine(
            config, params, self.metadata, device=self.device, dtype=self.dtype, size=size
        )
        self._heads = params.get("prompts")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        device: str | None = None,
        dtype: Dtype | None = None,
        size: int | None = None,
    ) -> "Segmenter":
        """Load shipped weights by name (the default ones without a name), or a file of weights.

        `hf://OWNER/NAME` is fetched from the Hugging Face Hub; nothing else uses the network.

        `device` is `cpu`, `gpu`, `tpu` or one with a number (`cuda:1`); `dtype` that of the
        activations, by default float32 on a CPU and bfloat16 elsewhere. `size` is the longer side
        in pixels at which pictures are seen: larger ones show thin things, and take longer.

        Raises:
            CheckpointError: if there are no such weights, or they are damaged or of another model.
            DeviceError: if there is no such device.
            PromptError: if the model cannot see pictures at that size.
        """
        enable_compile_cache()
        path = find_source(name_or_path)
        is_own = path.suffix == ".safetensors" and path.is_file() and is_own_file(path)
        loaded = load_weights(path) if is_own else load_published(path)
        try:
            is_in_context = loaded.config.get("model") == IN_CONTEXT_MODEL
            config = (InContextConfig if is_in_context else SegGPTConfig).from_dict(loaded.config)
            return cls(
                config,
                loaded.params,
                metadata=loaded.metadata,
                device=device,
                dtype=dtype,
                size=size,
            )
        except PromptError:  # the size is not the file's fault
            raise
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @property
    def threshold(self) -> float:
        """The probability above which a pixel is marked, as the weights' makers tuned it."""
        return float(self.metadata.get("threshold", 0.5))

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others: a hash of the architecture and every number."""
        return self.engine.fingerprint

    @cached_property
    def promptable(self) -> Promptable:
        """The model for points and boxes: the heads of these weights.

        Raises:
            CheckpointError: if they have none, as published ones.
        """
        config = self.config
        if (
            not isinstance(self.engine, InContextEngine)
            or not isinstance(config, InContextConfig)
            or self._heads is None
        ):
            raise CheckpointError(
                "these weights have no heads for points and boxes; leave those out, or use the "
                "shipped ones"
            )
        heads = make_heads(self.engine, config, {"prompts": self._heads})
        return Promptable(heads, metadata=self.metadata)

    def encode(self, image: Source) -> EncodedPicture:
        """Encode a picture once, to segment it with any number of contexts or to show it in some.

        Raises:
            InputError: if it cannot be read.
            PromptError: if this is a published model, which encodes pictures and masks together.
        """
        if not isinstance(self.engine, InContextEngine):
            raise PromptError("only in-context models with an encoder of their own encode pictures")
        return self.engine.encode_picture(load_source(image))

    def context(
        self,
        examples: Sequence[Example],
        *,
        ensemble: Ensemble | Literal["auto"] = "auto",
        seg_type: SegType = "semantic",
        names: Mapping[int, str] | None = None,
        like: Context | None = None,
    ) -> Context:
        """Encode examples once, to segment any number of pictures with.

        With the `feature` ensemble (`auto`) a query sees all examples; with the `spatial` one
        they are tiled to a single picture, which costs no more than one but loses detail.
        More labels than a training sample had are painted in several passes. `seg_type` says
        whether the masks mean every thing of a class (`semantic`) or one certain thing, to be
        found again in other views of it (`instance`).

        Raises:
            PromptError: if there are no examples.
            InputError: if a picture or a mask cannot be used.
        """
        loaded, labels, _ = load_examples(examples)
        if ensemble == "spatial" and len(loaded) > 1:
            loaded = [tile_examples(loaded, self.engine.size)]
        passes = split_labels(labels, LABELS_PER_PASS)
        if like is not None:
            check_labels(labels, like)
            labels, passes, seg_type = like.labels, like.passes, like.seg_type
        context = Context(
            labels=labels,
            passes=passes,
            arrays=self.engine.encode(loaded, passes, seg_type=seg_type),
            model=self.fingerprint,
            ensemble="spatial" if ensemble == "spatial" else "feature",
            seg_type=seg_type,
            names=names or {},
        )
        return like.joined(context) if like is not None else context

    def add(self, context: Context, result: Result) -> Context:
        """Return a context to which a result is one more example, such as one that was corrected.

        Raises:
            PromptError: if the result has other labels, or the context is another model's.
        """
        picture = result.image
        if picture is None:
            raise PromptError("this result has no picture; segment one to get one")
        example = Example(picture, result.label_map, kind="labels")
        return self.context([example], like=context)

    def tune(
        self,
        examples: Sequence[Example],
        *,
        steps: int = 0,
        seg_type: SegType = "semantic",
        names: Mapping[int, str] | None = None,
        config: TuneConfig | None = None,
    ) -> Context:
        """Learn a prompt from labelled pictures; the model stays as it is.

        `steps` of 0 chooses. Where plain examples do better on pictures held out, their context
        is returned; `about` and `threshold` of the result say what was reached.
        `incontext.tune.tuner` has more to ask for and more to tell.

        Raises:
            PromptError: if the examples or the settings make no sense.
            InputError: if a picture or a mask cannot be used.
        """
        chosen = config or TuneConfig()
        chosen = replace(chosen, steps=steps or chosen.steps)
        tuned = tune_prompt(self, examples, config=chosen, seg_type=seg_type, names=names)
        logger.info("%s", tuned.verdict)
        return tuned.context

    def segment(
        self,
        image: Source,
        context: Context | Sequence[Example],
        *,
        points: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        boxes: ArrayLike | None = None,
        about: int | None = None,
        threshold: float | None = None,
        detail: Detail | None = None,
    ) -> Result:
        """Segment one picture; see `segment_many`.

        Points (x, y) with labels 1 (inside) or 0 (outside) and a box (x0, y0, x1, y1), in pixels,
        correct what the context finds. With several labels `about` says which one they are for.

        Raises:
            InputError: if the picture cannot be read.
            PromptError: if the context is another model's, or the points or the box make no sense.
            CheckpointError: if there are points or a box, and the weights have no heads for them.
        """
        if points is None and labels is None and boxes is None:
            return next(self.segment_many([image], context, threshold=threshold, detail=detail))
        promptable = self.promptable
        seen = self.encode(image)  # once, for the examples and for the prompt
        result = next(self.segment_many([seen], context, threshold=threshold, detail=detail))
        return correct(
            replace(result, source=str(image) if isinstance(image, str | PathLike) else None),
            promptable,
            promptable.encode(seen),
            points=points,
            labels=labels,
            boxes=boxes,
            about=about,
        )

    def segment_many(
        self,
        images: Iterable[Source],
        context: Context | Sequence[Example],
        *,
        batch_size: int | Literal["auto"] = 1,
        threshold: float | None = None,
        detail: Detail | None = None,
    ) -> Iterator[Result]:
        """Segment pictures one by one or in batches; nothing is kept of those already done.

        `detail` gives finer masks for more time: `large` looks at each picture at twice the model's
        size, `tiles` also at overlapping parts of it, `refine` again at what was found. Without it
        the context decides, which is `plain` unless it was tuned. A `batch_size` of "auto" is as
        many as fit the device's memory and gain time.

        Raises:
            InputError: at the first picture that cannot be read.
            PromptError: if the context is another model's, or the model sees one size only and is
                asked for another.
        """
        if not isinstance(context, Context):
            context = self.context(context)
        if context.model != self.fingerprint:
            raise PromptError(
                f"this context was made by model {context.model}, not {self.fingerprint}; "
                "make it again from its examples, or load the weights it was made with"
            )
        chosen = self.threshold if context.threshold is None else context.threshold
        chosen = chosen if threshold is None else threshold
        detail = detail or context.detail
        size = self._query_size(detail)
        stream = iter(images)
        count = self._batch_size(context, size) if batch_size == "auto" else batch_size
        while part := tuple(islice(stream, count)):
            if batch_size == "auto":
                count = len(part)  # a stream that is shorter than a batch is not filled up
            pictures = [load_source(image) for image in part]
            known = [
                image if isinstance(image, EncodedPicture) else picture
                for image, picture in zip(part, pictures, strict=True)
            ]
            probabilities = self._probabilities(known, context, count, size)
            for source, picture, chances in zip(part, pictures, probabilities, strict=True):
                if detail in ("tiles", "refine"):
                    boxes = closer_boxes(detail, chances, picture.shape[:2], threshold=chosen)
                    crops = [picture[b.top : b.bottom, b.left : b.right] for b in boxes]
                    looks = self._looks(crops, context, count)
                    chances = blend(chances, boxes, looks, size=picture.shape[:2])
                yield Result(
                    probabilities_lowres=chances,
                    labels=context.labels,
                    size=picture.shape[:2],
                    image=picture,
                    names=context.names,
                    source=str(source) if isinstance(source, str | PathLike) else None,
                    threshold=chosen,
                )

    def _query_size(self, detail: Detail) -> int:
        size = LARGE * self.engine.size if detail == "large" else self.engine.size
        self.engine.check_size(size)
        return size

    def _batch_size(self, context: Context, size: int) -> int:
        return self.engine.batch_size(
            context.arrays, passes=len(context.passes), seg_type=context.seg_type, size=size
        )

    def _looks(
        self, crops: Sequence[np.ndarray], context: Context, batch_size: int
    ) -> list[Float32[np.ndarray, "planes gh gw"]]:
        """Return the probabilities of any number of crops."""
        size = self.engine.size
        parts = (crops[i : i + batch_size] for i in range(0, len(crops), batch_size))
        return [
            look for part in parts for look in self._probabilities(part, context, batch_size, size)
        ]

    def _probabilities(
        self,
        pictures: Sequence[Picture | EncodedPicture],
        context: Context,
        batch_size: int,
        size: int,
    ) -> list[Float32[np.ndarray, "planes gh gw"]]:
        """Return the probabilities of background and labels, of pictures seen at a size."""
        # A short last batch is filled up, so that one compiled program serves all.
        filled = [*pictures, *[pictures[-1]] * (batch_size - len(pictures))]
        found = self.engine.find(
            filled,
            context.arrays,
            passes=context.passes,
            seg_type=context.seg_type,
            size=size,
        )
        return found[: len(pictures)]


def _make_engine(
    config: SegGPTConfig | InContextConfig,
    params: Mapping[Any, Any],
    metadata: Mapping[str, str],
    *,
    device: Any,
    dtype: Dtype,
    size: int | None,
) -> Engine:
    """Return what runs a model.

    Raises:
        CheckpointError: if its encoder is not there, or is another one.
        PromptError: if it cannot see pictures at that size.
    """
    if isinstance(config, SegGPTConfig):
        engine = SegGPTEngine(config, params, device=device, dtype=dtype)
        engine.check_size(size or engine.size)
        engine.size = size or engine.size
        return engine
    return load_in_context(config, params, metadata, device=device, dtype=dtype, size=size)
