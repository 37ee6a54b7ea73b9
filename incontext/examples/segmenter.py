"""Encode examples once, segment many images with them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
from jaxtyping import Float32

from incontext.device import choose_device, default_dtype
from incontext.examples.context import (
    Context,
    Example,
    LoadedExample,
    check_names,
    check_same_names,
    names_of,
    read_examples,
    split_labels,
)
from incontext.examples.encoded import EncodedPicture, Source, load_source
from incontext.examples.engine import Engine, Picture, SegGPTEngine
from incontext.examples.in_context_engine import InContextEngine, load_in_context
from incontext.examples.large import find_in_bands
from incontext.examples.matching_engine import load_matching
from incontext.examples.passes import LABELS_PER_PASS
from incontext.examples.squares import tile_examples
from incontext.examples.tiles import blend, tile_boxes
from incontext.files.images import PictureOptions
from incontext.files.regions import Regions
from incontext.hub import check_no_encoder
from incontext.options import AskedEnsemble, Detail, Dtype, SegType, check_choice
from incontext.outputs.formats import check_labels
from incontext.outputs.rows import write_rows
from incontext.result import Decider, Result
from seggpt.config import InContextConfig, MatchingConfig, SegGPTConfig
from seggpt.errors import PromptError, one_line

LARGE = 2  # times the model's size along a side, for `large` detail


class ExampleSegmenter:
    """A model that segments by examples; `incontext.Segmenter` adds points and tuning to it."""

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
        if dtype is not None:
            check_choice("dtype", dtype, Dtype)
        self.config = config
        self.metadata = dict(metadata or {})
        self.device = choose_device(device)
        self.dtype: Dtype = dtype or default_dtype(self.device)
        told: dict[str, Any] = {"encoder": encoder, "device": self.device, "dtype": self.dtype}
        self.engine = _make_engine(config, params, self.metadata, **told, size=size)

    @property
    def threshold(self) -> float:
        """The probability above which a pixel is marked, as the weights' makers tuned it."""
        return float(self.metadata.get("threshold", 0.5))

    @property
    def fingerprint(self) -> str:
        """What tells these weights from others: a hash of the architecture and every number."""
        return self.engine.fingerprint

    def encode(self, image: Source, **options: Unpack[PictureOptions]) -> EncodedPicture:
        """Encode a picture once, to segment it with any number of contexts or to show it in some.

        Raises:
            InputError: if it cannot be read.
            PromptError: if this is a published model, which encodes pictures and masks together.
        """
        if not isinstance(self.engine, InContextEngine):
            raise PromptError("only in-context models with an encoder of their own encode pictures")
        return self.engine.encode_picture(load_source(image, **options))

    def context(
        self,
        examples: Sequence[Example],
        *,
        ensemble: AskedEnsemble = "auto",
        seg_type: SegType = "semantic",
        names: Mapping[int, str] | None = None,
        like: Context | None = None,
    ) -> Context:
        """Encode examples once, to segment any number of pictures with.

        With the `feature` ensemble (`auto`) a query sees all examples; with the `spatial` one
        they are tiled to a single picture, which costs no more than one but loses detail.
        More labels than a training sample had are painted in several passes. `seg_type` says
        whether the masks mean every thing of a class (`semantic`) or one certain thing, to be
        found again in other views of it (`instance`). `names` are those of the examples by default.

        Raises:
            PromptError: if there are no examples.
            InputError: if a picture or a mask cannot be used.
        """
        check_choice("ensemble", ensemble, AskedEnsemble)
        check_choice("seg_type", seg_type, SegType)
        if like is not None and not isinstance(like, Context):
            raise PromptError(f"like {like!r:.60} is no Context")
        loaded, labels, _ = read_examples(examples, like=like)
        if like is not None:
            check_same_names(examples, like)
        given: dict[str, Any] = {"seg_type": seg_type, "names": names or names_of(examples)}
        return self.show(loaded, labels, ensemble=ensemble, like=like, **given)

    def show(
        self,
        loaded: Sequence[LoadedExample],
        labels: tuple[int, ...],
        *,
        ensemble: AskedEnsemble = "auto",
        seg_type: SegType = "semantic",
        names: Mapping[int, str] | None = None,
        like: Context | None = None,
    ) -> Context:
        """Encode examples that have been read, and the labels in them; see `context`."""
        if ensemble == "spatial" and len(loaded) > 1:
            loaded = [tile_examples(loaded, self.engine.size)]
        passes = split_labels(labels, LABELS_PER_PASS) if labels else ()
        if like is not None:
            labels, passes, seg_type = like.labels, like.passes, like.seg_type
        context = Context(
            labels=labels,
            passes=passes,
            arrays=self.engine.encode(loaded, passes, seg_type=seg_type),
            model=self.fingerprint,
            ensemble="spatial" if ensemble == "spatial" else "feature",
            seg_type=seg_type,
            names=check_names(names),
        )
        return like.joined(context) if like is not None else context

    def batch_size(self, context: Context, detail: Detail | None = None) -> int:
        """Return how many pictures at a time fit the device's memory and gain time."""
        size = self._query_size(detail or context.detail)
        return self.engine.batch_size(
            context.arrays, passes=len(context.passes), seg_type=context.seg_type, size=size
        )

    def segment_many(
        self,
        images: Iterable[Source],
        context: Context | Sequence[Example],
        *,
        batch_size: int | Literal["auto"] = 1,
        threshold: float | None = None,
        detail: Detail | None = None,
        **options: Unpack[PictureOptions],
    ) -> Iterator[Result]:
        """Segment pictures one by one or in batches; nothing is kept of those already done.

        `detail` gives finer masks for more time: `large` looks at each picture at twice the model's
        size, `tiles` also at overlapping parts of it. Without it the context decides, which is
        `plain` unless it was tuned. A `batch_size` of "auto" is as
        many as fit the device's memory and gain time. `options` say how pictures are read, as
        for `incontext.files.images.load_image`: max_pixels, alpha, bands.

        Raises:
            InputError: at the first picture that cannot be read.
            PromptError: if an argument makes no sense, or the context is another model's.
        """
        check_arguments(images, batch_size, threshold, detail)
        if not isinstance(context, Context):
            context = self.context(context)
        chosen = self.threshold_for(context) if threshold is None else threshold
        detail = detail or context.detail
        size = self._query_size(detail)
        stream = iter(images)
        count = self.batch_size(context, detail) if batch_size == "auto" else batch_size
        while part := tuple(islice(stream, count)):
            if batch_size == "auto":
                count = len(part)  # a stream that is shorter than a batch is not filled up
            pictures = [load_source(image, **options) for image in part]
            known = [
                image if isinstance(image, EncodedPicture) else picture
                for image, picture in zip(part, pictures, strict=True)
            ]
            rows = self._probabilities(known, context, count, size)
            for source, picture, probabilities in zip(part, pictures, rows, strict=True):
                if detail == "tiles":
                    boxes = tile_boxes(picture.shape[:2])
                    crops = [picture[b.top : b.bottom, b.left : b.right] for b in boxes]
                    tiles = list(self._tiles(crops, context, count))
                    probabilities = blend(probabilities, boxes, tiles, size=picture.shape[:2])
                yield Result(
                    probabilities_lowres=probabilities,
                    labels=context.labels,
                    size=picture.shape[:2],
                    image=picture,
                    names=context.names,
                    source=str(source) if isinstance(source, str | PathLike) else None,
                    threshold=chosen,
                )

    def segment_large(
        self,
        picture: Regions,
        context: Context,
        paths: Mapping[str, Path],
        *,
        batch_size: int = 1,
        threshold: float | None = None,
        advance: Callable[[], None] = lambda: None,
    ) -> dict[int, float]:
        """Write the label map of a picture that no memory holds, and return the labels' scores.

        It is seen in overlapping tiles of the model's own size alone, a row of them at a time.

        Args:
            picture: As `incontext.files.regions.open_large` opens it.
            context: What to find.
            paths: The file of `mask`, `labels` or both.
            batch_size: How many tiles at a time.
            threshold: As for `segment_many`.
            advance: Called after each tile.

        Raises:
            InputError: if a label does not fit, or a file cannot be read or written.
            PromptError: if the context is another model's.
        """
        for output in paths:
            check_labels(context.labels, output)
        chosen = self.threshold_for(context) if threshold is None else threshold
        decider = Decider(context.labels, chosen)

        def find(crops: Sequence[Picture]) -> Iterator[Float32[np.ndarray, "k gh gw"]]:
            for tile in self._tiles(crops, context, batch_size):
                yield tile
                advance()

        bands = find_in_bands(
            picture, find, channels=len(context.labels) + 1, side=self.engine.size
        )
        most = max(context.labels, default=0)
        write_rows(map(decider.decide, bands), paths, size=picture.shape, most=most)
        return decider.scores

    def threshold_for(self, context: Context) -> float:
        """Return the threshold that a context was tuned to, or the weights'.

        Raises:
            PromptError: if it is another model's context.
        """
        if context.model != self.fingerprint:
            raise PromptError(
                f"this context was made by model {context.model}, not {self.fingerprint}; "
                "make it again from its examples, or load the weights it was made with"
            )
        return self.threshold if context.threshold is None else context.threshold

    def _query_size(self, detail: Detail) -> int:
        size = LARGE * self.engine.size if detail == "large" else self.engine.size
        self.engine.check_size(size)
        return size

    def _tiles(
        self, crops: Sequence[np.ndarray], context: Context, batch_size: int
    ) -> Iterator[Float32[np.ndarray, "k gh gw"]]:
        """Yield the probabilities of any number of crops."""
        size = self.engine.size
        parts = (crops[i : i + batch_size] for i in range(0, len(crops), batch_size))
        for part in parts:
            yield from self._probabilities(part, context, batch_size, size)

    def _probabilities(
        self,
        pictures: Sequence[Picture | EncodedPicture],
        context: Context,
        batch_size: int,
        size: int,
    ) -> list[Float32[np.ndarray, "k gh gw"]]:
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


def check_arguments(images: object, batch_size: object, threshold: object, detail: object) -> None:
    """Check what segmenting many pictures is asked.

    Raises:
        PromptError: naming the argument that makes no sense.
    """
    shape = getattr(images, "shape", ())
    is_one = isinstance(images, str | bytes | PathLike) or not isinstance(images, Iterable)
    if is_one or len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
        said = one_line(repr(images)[:60])
        raise PromptError(f"segment_many takes a list of pictures, and {said} is one; use segment")
    if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
        raise PromptError(f"batch_size {batch_size!r} is no whole number above 0, and not auto")
    if threshold is not None and not (isinstance(threshold, Real) and 0 <= float(threshold) <= 1):
        raise PromptError(f"threshold {threshold!r} is not in 0..1")
    if detail is not None:
        check_choice("detail", detail, Detail)


def _make_engine(
    config: SegGPTConfig | InContextConfig | MatchingConfig,
    params: Mapping[Any, Any],
    metadata: Mapping[str, str],
    *,
    encoder: str | PathLike[str] | None,
    device: Any,
    dtype: Dtype,
    size: int | None,
) -> Engine:
    """Return what runs a model.

    Raises:
        CheckpointError: if its encoder is not there, or is another one.
        PromptError: if it cannot see pictures at that size, or an encoder is given to a SegGPT.
    """
    if size is not None and not isinstance(size, int):
        raise PromptError(f"size {size!r} is no number of pixels")
    if isinstance(config, SegGPTConfig):
        check_no_encoder(encoder)
        engine = SegGPTEngine(config, params, device=device, dtype=dtype)
        if size is not None:
            engine.check_size(size)
            engine.size = size
        return engine
    if isinstance(config, MatchingConfig):
        return load_matching(config, params, metadata, device=device, dtype=dtype, size=size)
    return load_in_context(
        config, params, metadata, encoder=encoder, device=device, dtype=dtype, size=size
    )
