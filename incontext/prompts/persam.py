"""PerSAM and PerSAM-F: find the thing that one example marks in other images.

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
import optax
from jaxtyping import Array, Bool, Float, Float32, Int, PyTree

from incontext.examples.context import Example, read_examples
from incontext.files import rle
from incontext.files.images import ImageSource, PictureOptions, load_image
from incontext.options import PersamMethod, check_choice
from incontext.prompts.answers import Answer
from incontext.prompts.checks import Prompts
from incontext.prompts.engine import PromptEngine
from incontext.prompts.promptable import (
    EncodedImage,
    OnPromptable,
    Promptable,
    check_model,
    place_prompts,
)
from incontext.prompts.similarity import describe, find_extremes, guide, measure_similarity
from incontext.result import Result
from seggpt.prompts import Guidance

# Of persam_f.py; the weight decay is torch's default.
_STEPS, _RATE, _EPSILON, _DECAY = 1000, 1e-3, 1e-4, 0.01
_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0


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
            PromptError: if there is no such method.
        """
        check_choice("method", method, PersamMethod)
        (loaded,), labels, _ = read_examples([example])
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
        return Result.from_logits(logits, target.labels, picture)

    def _find(
        self,
        state: EncodedImage,
        feature: Float32[np.ndarray, " d"],
        mixing: Float32[np.ndarray, " 3"] | None,
    ) -> Answer:
        """Return the one mask of a label, refined twice."""
        similarity = measure_similarity(self.model.engine.patches(state.embedding), feature)
        most, least = find_extremes(similarity, state.frame)
        if mixing is not None:
            points = {"points": [most], "labels": [1]}
            found = self.model.predict(state, **points)
            found = _mixed(found, mixing)
            found = self.model.predict(state, **points, **_again(found), boxes=_box(found)).best()
        else:
            points = {"points": [most, least], "labels": [1, 0]}
            found = self._guide(state, points, feature, similarity)
            found = self.model.predict(state, **points, **_again(found)).best()
        return self.model.predict(state, **points, **_again(found), boxes=_box(found)).best()

    def _guide(
        self,
        state: EncodedImage,
        points: dict[str, Any],
        feature: Float32[np.ndarray, " d"],
        similarity: Float32[np.ndarray, "gh gw"],
    ) -> Answer:
        """Ask for the mask of a clear prompt, with attention drawn to what looks alike."""
        prompts = Prompts(
            points=np.asarray([points["points"]], np.float32),
            labels=np.asarray([points["labels"]], np.int32),
            boxes=None,
            masks=None,
        )
        slots = place_prompts(prompts, state.frame)
        places = guide(similarity, state.frame).reshape(1, -1)
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
        similarity = measure_similarity(self.model.engine.patches(state.embedding), feature)
        most, _ = find_extremes(similarity, state.frame)
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


def tune_mixing(
    logits: Float32[np.ndarray, "3 h w"], mask: Bool[np.ndarray, "h w"], *, steps: int = _STEPS
) -> Float32[np.ndarray, " 3"]:
    """Return the weights, of sum 1, with which three masks together are most like the example's."""
    weights = _tune(jnp.asarray(logits), jnp.asarray(mask, jnp.float32), steps=steps)
    return np.asarray(weights)


@partial(jax.jit, static_argnames="steps")
def _tune(
    logits: Float[Array, "3 h w"], mask: Float[Array, "h w"], *, steps: int
) -> Float[Array, " 3"]:
    schedule = optax.cosine_decay_schedule(_RATE, steps)
    optimizer = optax.adamw(schedule, eps=_EPSILON, weight_decay=_DECAY)

    def step(_: Array, state: tuple[Array, optax.OptState]) -> tuple[Array, optax.OptState]:
        free, momenta = state
        gradient = jax.grad(lambda free: mixing_loss(_complete(free), logits, mask))(free)
        updates, momenta = optimizer.update(gradient, momenta, free)
        return jnp.asarray(optax.apply_updates(free, updates)), momenta

    free = jnp.full(2, 1 / 3)
    return _complete(jax.lax.fori_loop(0, steps, step, (free, optimizer.init(free)))[0])


def mixing_loss(
    weights: Float[Array, " 3"], logits: Float[Array, "3 h w"], mask: Float[Array, "h w"]
) -> Float[Array, ""]:
    """Return the dice loss plus the focal loss of the mixed mask."""
    mixed = jnp.einsum("c,chw->hw", weights, logits)
    probability = jax.nn.sigmoid(mixed)
    dice = 1 - (2 * (probability * mask).sum() + 1) / (probability.sum() + mask.sum() + 1)
    right = jnp.where(mask > 0, probability, 1 - probability)
    balance = jnp.where(mask > 0, _FOCAL_ALPHA, 1 - _FOCAL_ALPHA)
    surprise = optax.sigmoid_binary_cross_entropy(mixed, mask)
    return dice + (balance * (1 - right) ** _FOCAL_GAMMA * surprise).mean()


def _complete(free: Float[Array, " 2"]) -> Float[Array, " 3"]:
    """Add the weight that the other two leave, in front."""
    return jnp.concatenate([1 - free.sum(keepdims=True), free])
