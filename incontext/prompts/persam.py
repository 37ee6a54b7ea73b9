"""One example picture with a mask, and the same thing in other pictures: PerSAM and PerSAM-F.

The method of Zhang et al., "Personalize Segment Anything Model with One Shot" (arXiv 2305.03048),
for any promptable model. Constants without another source are those of its authors' code, persam.py
and persam_f.py of ZrrSkywalker/Personalize-SAM.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, PyTree

from incontext.examples.context import Example, load_examples
from incontext.files import rle
from incontext.files.images import ImageSource, PictureOptions, load_image
from incontext.options import PersamMethod
from incontext.prompts.answers import Answer
from incontext.prompts.checks import Prompts
from incontext.prompts.engine import PromptEngine
from incontext.prompts.likeness import describe, find_extremes, guide, measure_likeness
from incontext.prompts.mixing import tune_mixing
from incontext.prompts.promptable import (
    EncodedImage,
    OnPromptable,
    Promptable,
    check_model,
    place_prompts,
)
from incontext.prompts.shares import make_result
from incontext.result import Result
from seggpt.prompts import Guidance


@dataclass(frozen=True, kw_only=True, eq=False)
class Target:
    """What an example shows, as one model has encoded it.

    Attributes:
        labels: Of the example's mask, rising.
        features: How each label looks, in the model's features.
        mixing: How much each of the three masks that a point may mean counts (PerSAM-F), or None.
        model: The fingerprint of the weights that made it.
    """

    labels: tuple[int, ...]
    features: Float32[np.ndarray, "labels d"]
    mixing: Float32[np.ndarray, "labels 3"] | None
    model: str


class PerSAM(OnPromptable):
    """Finds what one example shows. It never changes, so any number of threads may share it."""

    def __init__(self, model: Promptable) -> None:
        self.model = model
        self._guided = jax.jit(partial(_guided, model.engine))

    def learn(self, example: Example, *, method: PersamMethod = "persam") -> Target:
        """Look at an example, each label of its mask by itself.

        `persam` trains nothing. `persam-f` learns two numbers a label, which takes seconds: how to
        mix the masks of a part, a thing and a group of things.

        Raises:
            InputError: if the picture or the mask cannot be used.
        """
        (loaded,), labels, _ = load_examples([example])
        state = self.model.encode(loaded.image)
        embedding = self.model.engine.patches(state.embedding)
        masks = [loaded.labels == label for label in labels]
        features = [
            describe(embedding, mask, state.frame, peaks=method != "persam") for mask in masks
        ]
        mixing = None
        if method == "persam-f":
            pairs = zip(features, masks, strict=True)
            mixing = np.stack([self._tune(state, feature, mask) for feature, mask in pairs])
        return Target(
            labels=labels,
            features=np.stack(features),
            mixing=mixing,
            model=self.model.fingerprint,
        )

    def segment(
        self, image: ImageSource, target: Target, **options: Unpack[PictureOptions]
    ) -> Result:
        """Find in a picture what an example showed.

        `options` are those of `incontext.files.images.load_image`: max_pixels, alpha, bands.

        Raises:
            InputError: if the picture cannot be used.
            PromptError: if another model has looked at the example.
        """
        check_model(target.model, self.model, what="example")
        picture = load_image(image, **options)
        state = self.model.encode(picture)
        mixing = target.mixing if target.mixing is not None else [None] * len(target.labels)
        answers = [self._find(state, *one) for one in zip(target.features, mixing, strict=True)]
        logits = np.stack([answer.logits()[0, 0] for answer in answers])
        return make_result(logits, target.labels, picture)

    def _find(
        self,
        state: EncodedImage,
        feature: Float32[np.ndarray, " d"],
        mixing: Float32[np.ndarray, " 3"] | None,
    ) -> Answer:
        """Return the one mask of a label, refined twice."""
        likeness = measure_likeness(self.model.engine.patches(state.embedding), feature)
        most, least = find_extremes(likeness, state.frame)
        if mixing is not None:
            points = {"points": [most], "labels": [1]}
            found = self.model.predict(state, **points)
            found = _mixed(found, mixing)
            found = self.model.predict(state, **points, **_again(found), boxes=_box(found)).best()
        else:
            points = {"points": [most, least], "labels": [1, 0]}
            found = self._guide(state, points, feature, likeness)
            found = self.model.predict(state, **points, **_again(found)).best()
        return self.model.predict(state, **points, **_again(found), boxes=_box(found)).best()

    def _guide(
        self,
        state: EncodedImage,
        points: dict[str, Any],
        feature: Float32[np.ndarray, " d"],
        likeness: Float32[np.ndarray, "gh gw"],
    ) -> Answer:
        """Ask for the mask of a clear prompt, with attention drawn to what looks alike."""
        prompts = Prompts(
            points=np.asarray([points["points"]], np.float32),
            labels=np.asarray([points["labels"]], np.int32),
            boxes=None,
            masks=None,
        )
        slots = place_prompts(prompts, state.frame)
        places = guide(likeness, state.frame).reshape(1, -1)
        guidance = Guidance(jnp.asarray(places), jnp.asarray(feature[None]))
        found = self._guided(
            self.model.engine.params, state.embedding, slots.coords, slots.labels, guidance
        )
        low_res, scores = map(np.asarray, found)
        return Answer(low_res=low_res, scores=scores, frame=state.frame)

    def _tune(
        self,
        state: EncodedImage,
        feature: Float32[np.ndarray, " d"],
        mask: Bool[np.ndarray, "h w"],
    ) -> Float32[np.ndarray, " 3"]:
        likeness = measure_likeness(self.model.engine.patches(state.embedding), feature)
        most, _ = find_extremes(likeness, state.frame)
        return tune_mixing(self.model.predict(state, points=[most]).logits()[0], mask)


def _mixed(found: Answer, mixing: Float32[np.ndarray, " 3"]) -> Answer:
    """Return one mask for three."""
    return Answer(
        low_res=np.einsum("c,pchw->phw", mixing, found.low_res)[:, None],
        scores=(found.scores @ mixing)[:, None],
        frame=found.frame,
    )


def _again(found: Answer) -> dict[str, Any]:
    """Return what was found as a prompt."""
    return {"mask": found.low_res[0, 0]}


def _box(found: Answer) -> Int[np.ndarray, " 4"] | None:
    """Return the box around what was found, or None where it is no box."""
    x0, y0, x1, y1 = rle.bounding_box(found.masks()[0, 0])
    return np.array([x0, y0, x1, y1]) if x0 < x1 and y0 < y1 else None


def _guided(
    engine: PromptEngine,
    params: PyTree,
    embedding: PyTree,
    coords: Float[Array, "p s 2"],
    labels: Int[Array, "p s"],
    guidance: Guidance,
) -> tuple[Float[Array, "p 1 m m"], Float[Array, "p 1"]]:
    found = engine.look(params, embedding, coords, labels, guidance=guidance)
    masks = engine.draw(params, embedding, found)
    return masks[:, :1], engine.scores(params, found)[:, :1]
