"""What is known of a video so far: marked frames for good, and the last ones as they were found.

A past frame is one more example, whose colours the model painted itself. The published SegGPT does
this with a queue; the in-context model has encoded each frame anyway, so remembering one costs
the encoding of its colours.
"""

from collections import deque
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import ArrayLike, Float32, Int32
from PIL import Image

from incontext.examples.contents import Contents, HeadContext, join_contents
from incontext.examples.context import Context, LoadedExample
from incontext.examples.encoded import EncodedPicture, load_source
from incontext.examples.engine import Engine, Picture
from incontext.examples.in_context_engine import InContextEngine
from seggpt.encoder import Embedding
from seggpt.in_context.model import Cache, join_caches

Seen = Picture | EncodedPicture
Labels = Int32[np.ndarray, "h w"]
Probabilities = Float32[np.ndarray, "k h w"]

# Of a past frame that may be an example: the least mean probability of a label in its own pixels.
CONFIDENT = 0.8


@runtime_checkable  # tests check annotations
class Follower(Protocol):
    """One model at work on one video; it has a state, and is for one thread."""

    def find(self, frame: Seen) -> Probabilities:
        """Return what is found in the next frame, and remember it if it may be an example."""
        ...

    def keep(self, frame: Seen, labels: Labels) -> None:
        """Take a marked frame for an example from here on."""
        ...

    def recall(self, frame: Seen, labels: Labels) -> None:
        """Take a frame that was found in an earlier run for one of the last ones."""
        ...


def make_follower(engine: Engine, context: Context, *, memory: int) -> Follower:
    """Return what follows the labels of a context with so many past frames in mind."""
    if isinstance(engine, InContextEngine):
        return InContextFollower(engine, context, memory=memory)
    return QueueFollower(engine, context, memory=memory)


class InContextFollower:
    """The in-context model: a ring of past frames, written in place.

    The ring is full from its first frame on, with copies of that: copies of a key change nothing
    in a softmax but its weight beside other frames, and one compiled program serves all. Frames
    enter with the colours as they were painted, so that what was not sure stays so, and only where
    every label was found with confidence: a thing that was lost is not forgotten.
    """

    def __init__(self, engine: InContextEngine, context: Context, *, memory: int) -> None:
        self.engine, self.passes, self.memory = engine, context.passes, memory
        self.known: Cache = engine.cache_of(context.arrays, context.passes)
        arrays = context.arrays
        self.heads = arrays.heads if isinstance(arrays, HeadContext) else None
        self.ring: Cache | None = None
        self.place = 0  # in the ring, of the oldest frame

    def find(self, frame: Seen) -> Probabilities:
        """Encode a frame, paint it by all that is known, and remember it."""
        embedding = self.engine.embed(frame)
        cache = self.known if self.ring is None else join_caches([self.known, self.ring])
        [found] = self.engine.find_embedded(embedding, cache, self.passes, heads=self.heads)
        if self.memory and is_confident(found):
            self._remember(self.engine.encode_probabilities(embedding, found, self.passes))
        return found

    def keep(self, frame: Seen, labels: Labels) -> None:
        """Add a marked frame to what is known for good."""
        self.known = join_caches([self.known, self._encode(frame, labels)])

    def recall(self, frame: Seen, labels: Labels) -> None:
        """Put a frame in the place of the oldest."""
        if self.memory:
            self._remember(self._encode(frame, labels))

    def _encode(self, frame: Seen, labels: Labels) -> Cache:
        embedding: Embedding = self.engine.embed(frame)
        return self.engine.encode_embedding(embedding, labels, self.passes)

    def _remember(self, frame: Cache) -> None:
        tokens = frame.colours.shape[1]
        if self.ring is None or self.ring.colours.shape[1] != self.memory * tokens:
            self.ring, self.place = join_caches([frame] * self.memory), 0
            return
        self.ring = _write(self.ring, frame, self.place)
        self.place = (self.place + 1) % self.memory


@partial(jax.jit, donate_argnums=0)
def _write(ring: Cache, frame: Cache, place: ArrayLike) -> Cache:
    """Put a frame into its place of a ring."""

    def put(whole: jax.Array, part: jax.Array) -> jax.Array:
        start = place * part.shape[1]
        return jax.lax.dynamic_update_slice_in_dim(whole, part.astype(whole.dtype), start, axis=1)

    return jax.tree.map(put, ring, frame)


def is_confident(found: Probabilities, *, least: float = CONFIDENT) -> bool:
    """Return whether every label was found, and each with so much probability where it was."""
    winner = found.argmax(axis=0)
    own = [found[place][winner == place] for place in range(1, len(found))]
    return all(len(values) and float(values.mean()) >= least for values in own)


class QueueFollower:
    """SegGPT and Painter, as SegGPT's authors do: the last frames and the marked ones together."""

    def __init__(self, engine: Engine, context: Context, *, memory: int) -> None:
        self.engine, self.context = engine, context
        self.known: Contents = context.arrays
        self.past: deque[LoadedExample] = deque(maxlen=memory)

    def find(self, frame: Seen) -> Probabilities:
        """Paint a frame by the marked ones and the last ones, and remember it."""
        arrays = self.known
        if self.past:
            arrays = join_contents(arrays, self._encode(list(self.past)))
        about: dict[str, Any] = {"passes": self.context.passes, "seg_type": self.context.seg_type}
        [found] = self.engine.find([frame], arrays, size=self.engine.size, **about)
        labels = np.array((0, *self.context.labels), np.int32)[found.argmax(axis=0)]
        height, width = load_source(frame).shape[:2]
        enlarged = Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST)
        self.recall(frame, np.asarray(enlarged))
        return found

    def keep(self, frame: Seen, labels: Labels) -> None:
        """Add a marked frame to what is known for good."""
        marked = self._encode([LoadedExample(load_source(frame), labels)])
        self.known = join_contents(self.known, marked)

    def recall(self, frame: Seen, labels: Labels) -> None:
        """Add a frame, and drop the oldest."""
        self.past.append(LoadedExample(load_source(frame), labels))

    def _encode(self, examples: list[LoadedExample]) -> Contents:
        return self.engine.encode(examples, self.context.passes, seg_type=self.context.seg_type)
