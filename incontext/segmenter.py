"""`Segmenter`: examples, points and tuning on one model."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from os import PathLike
from typing import Any, Unpack

from numpy.typing import ArrayLike

from incontext.device import choose_device, enable_compile_cache
from incontext.examples.context import Context, Example
from incontext.examples.encoded import Source
from incontext.examples.in_context_engine import InContextEngine
from incontext.examples.segmenter import ExampleSegmenter
from incontext.files.images import PictureOptions
from incontext.hub import find_own_encoder, find_source
from incontext.options import Detail, Dtype, SegType
from incontext.prompts.correct import correct
from incontext.prompts.promptable import Promptable, make_heads
from incontext.result import Result
from incontext.tune.config import TuneConfig
from incontext.tune.tuner import tune_prompt
from incontext.video.track import TrackOptions, track
from seggpt.config import IN_CONTEXT_MODEL, InContextConfig, MatchingConfig, SegGPTConfig
from seggpt.errors import CheckpointError, PromptError
from seggpt.pretrained import ENCODER, MATCHING
from seggpt.weights.encoder import load_encoder
from seggpt.weights.files import is_own_file, load_weights
from seggpt.weights.published import load_published

logger = logging.getLogger(__name__)


class Segmenter(ExampleSegmenter):
    """A model ready to segment; any number of threads may share it.

    All that it keeps beside the weights are compiled programs, and what the examples of a tuned
    prompt are encoded to, for as long as that prompt lives.
    """

    def __init__(
        self,
        config: SegGPTConfig | InContextConfig | MatchingConfig,
        params: Mapping[Any, Any],
        *,
        metadata: Mapping[str, str] | None = None,
        encoder: str | PathLike[str] | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
        size: int | None = None,
    ) -> None:
        told: dict[str, Any] = {"metadata": metadata, "encoder": encoder, "size": size}
        super().__init__(config, params, device=device, dtype=dtype, **told)
        self._heads = params.get("prompts")

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | PathLike[str] | None = None,
        *,
        encoder: str | PathLike[str] | None = None,
        device: str | None = None,
        dtype: Dtype | None = None,
        size: int | None = None,
    ) -> "Segmenter":
        """Load shipped weights by name (the default ones without a name), or a file of weights.

        `hf://OWNER/NAME` is fetched from the Hugging Face Hub; nothing else uses the network.

        `device` is `cpu`, `gpu`, `tpu` or one with a number (`cuda:1`); `dtype` that of the
        activations, by default float32 on a CPU and bfloat16 elsewhere. `size` is the longer side
        in pixels at which pictures are seen: larger ones show thin things, and take longer.
        `encoder` is the file or folder of the encoder that weights were trained on; those on a
        shipped one, or with theirs beside them, need none.

        The name `matching` is no weights but matching mode: the features of the shipped encoder,
        or of the `encoder` that a file or folder has, without anything trained on them.

        Raises:
            CheckpointError: if there are no such weights, or they are damaged or of another model
                or encoder.
            DeviceError: if there is no such device.
            PromptError: if the model cannot see pictures at that size.
        """
        choose_device(device)  # a wrong name must not wait for the weights
        enable_compile_cache()
        if name_or_path == MATCHING:
            loaded = load_encoder(find_own_encoder(ENCODER, {}, encoder))
            about = {"encoder_sha256": loaded.sha256, "train_sets": "[]"}
            told: dict[str, Any] = {"device": device, "dtype": dtype, "size": size}
            config = MatchingConfig(encoder=loaded.config)
            return cls(config, loaded.params, metadata=about, **told)
        path = find_source(name_or_path)
        is_own = path.suffix == ".safetensors" and path.is_file() and is_own_file(path)
        loaded = load_weights(path) if is_own else load_published(path)
        try:
            is_in_context = loaded.config.get("model") == IN_CONTEXT_MODEL
            config = (InContextConfig if is_in_context else SegGPTConfig).from_dict(loaded.config)
            if is_in_context:
                encoder = find_own_encoder(path, loaded.metadata, encoder)
            return cls(
                config,
                loaded.params,
                metadata=loaded.metadata,
                encoder=encoder,
                device=device,
                dtype=dtype,
                size=size,
            )
        except PromptError:  # the size is not the file's fault
            raise
        except (CheckpointError, ValueError) as error:
            raise CheckpointError(f"{path}: {error}") from error

    @cached_property
    def promptable(self) -> Promptable:
        """The model for points and boxes: the heads of these weights.

        Raises:
            CheckpointError: if they have none, as published ones.
        """
        config = self.config
        if isinstance(config, MatchingConfig):
            raise CheckpointError(
                "matching mode has no heads for points and boxes; leave those out, or load the "
                "shipped weights"
            )
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

    def track(
        self,
        frames: Iterable[Source],
        context: Context | Sequence[Example],
        **options: Unpack[TrackOptions],
    ) -> Iterator[Result]:
        """Segment the frames of a video in their order, and keep labels on the same things.

        The examples are mostly the first frame and its mask. The last frames become examples for
        the next, so that things may change their looks. Nothing else is kept of frames done.

        Raises:
            InputError: at the first frame that cannot be read.
            PromptError: if an argument makes no sense, or the context is another model's.
        """
        return track(self, frames, context, **options)

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
        **options: Unpack[PictureOptions],
    ) -> Result:
        """Segment one picture; see `segment_many`, also for `options`.

        Points (x, y) with labels 1 (inside) or 0 (outside) and a box (x0, y0, x1, y1), in pixels,
        correct what the context finds. With several labels `about` says which one they are for.

        Raises:
            InputError: if the picture cannot be read.
            PromptError: if the context is another model's, or the points or the box make no sense.
            CheckpointError: if there are points or a box, and the weights have no heads for them.
        """
        if points is None and labels is None and boxes is None:
            if about is not None:
                raise PromptError(f"about={about!r} says what points or a box are for; give those")
            told: dict[str, Any] = {"threshold": threshold, "detail": detail, **options}
            return next(self.segment_many([image], context, **told))
        promptable = self.promptable
        seen = self.encode(image, **options)  # once, for the examples and for the prompt
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
