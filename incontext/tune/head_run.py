"""Head tuning by cross-validation: heads correct what other folds find in an image."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from incontext.examples.contents import HeadContext
from incontext.examples.context import Context, Example, split_labels
from incontext.examples.in_context_engine import InContextEngine, fit_size
from incontext.examples.passes import LABELS_PER_PASS
from incontext.examples.segmenter import ExampleSegmenter
from incontext.options import SegType
from incontext.tune.baselines import MOST_EXAMPLES, Plain, cover_labels, label_maps
from incontext.tune.config import RATES, TuneConfig
from incontext.tune.head import Bank, fill_bank, learn_head, make_update
from incontext.tune.loop import Progress
from incontext.tune.outcome import Probabilities, Tuned, describe
from incontext.tune.pictures import Pictures, read_pictures, warn_of_single
from incontext.tune.scores import Counts, add_counts, count_pixels
from seggpt.encoder import Embedding
from seggpt.errors import PromptError
from seggpt.in_context.head import guess_of
from seggpt.in_context.model import join_caches

FOLDS = 4
FEW = 8  # pictures below which each is left out alone
MOST_PICTURES = 64  # learned from: each takes seconds to encode and to paint
LEAST_STEPS = 20  # where time is up before they begin
PACE_STEPS = 3  # that tell how long the others take


@dataclass(frozen=True)
class Found:
    """Pictures, encoded, and what the examples of other folds find in each."""

    pictures: Pictures
    passes: tuple[tuple[int, ...], ...]
    embeddings: list[Embedding]
    probabilities: list[Probabilities]
    folds: list[list[int]]

    def count(self, probabilities: Sequence[Probabilities]) -> Counts:
        """Count what was found in all pictures."""
        pairs = zip(probabilities, self.pictures.class_ids, strict=True)
        return add_counts([count_pixels(*pair, labels=self.pictures.labels) for pair in pairs])


def tune_head(
    segmenter: ExampleSegmenter,
    examples: Sequence[Example],
    *,
    config: TuneConfig,
    seg_type: SegType,
    names: Mapping[int, str],
    labels: Sequence[int] | None,
    tell: Callable[[Progress], None],
    say: Callable[[str], None],
    deadline: float,
    command: str,
) -> Tuned:
    """Learn a head; see `incontext.tune.tuner.tune_prompt`.

    Raises:
        PromptError: if there are too few pictures that show something.
        InputError: if a picture or a mask cannot be used.
    """
    engine = segmenter.engine
    assert isinstance(engine, InContextEngine)
    say(f"reading {len(examples)} pictures, then painting each by others")
    patch = engine.config.encoder.patch_size
    fit = partial(fit_size, size=engine.size, patch_size=patch)
    pictures = read_pictures(examples, side=engine.size, labels=labels, fit=fit)
    pictures, order = _choose(pictures, say, seed=config.seed)
    warn_of_single(pictures)
    found = find_by_others(engine, pictures, order)
    plain = _untuned(found, order, model=segmenter.fingerprint, seg_type=seg_type)
    about = {"learn": "head", "pictures": len(pictures), "seed": config.seed, "command": command}
    about |= {"plain_score": round(plain.score, 2)}
    told = partial(describe, held=pictures, names=names)
    instead = about | {"learn": "nothing", "examples": plain.name}
    kept = told(plain.context, plain.counts, about=instead)
    outcome = partial(
        Tuned,
        plain_context=kept,
        plains=[plain],
        learned_from=pictures,
        judged_by=pictures,
        judging="pictures left out in turn",
    )
    try:
        run = _Run(engine, found, config, before=plain.score, tell=tell)
        steps = run.choose_steps(deadline)
        heads, probabilities, losses = run.learn(steps)
    except KeyboardInterrupt:
        return outcome(tuned_context=kept, tuned=plain.counts, ending="interrupted", history=[])
    counts = found.count(probabilities)
    assert isinstance(plain.context.arrays, HeadContext)
    arrays = replace(plain.context.arrays, heads=jax.device_get(heads))
    tuned = replace(plain.context, arrays=arrays)
    score = counts.mean(counts.best_threshold())
    return outcome(
        tuned_context=told(tuned, counts, about=about | {"steps": steps}),
        tuned=counts,
        ending="steps" if steps == config.steps else "minutes",
        history=[(steps, float(np.mean(losses)), score)],
        left_out=list(zip(found.probabilities, probabilities, strict=True)),
    )


def _choose(
    pictures: Pictures, say: Callable[[str], None], *, seed: int
) -> tuple[Pictures, list[int]]:
    """Return what is learned from, and which of it can be examples, those that show most first.

    Raises:
        PromptError: if fewer than two can.
    """
    order = cover_labels(pictures, np.random.default_rng([seed, 4]))
    if len(order) < 2:
        raise PromptError(
            f"{len(order)} of {len(pictures)} pictures show something; learning a head needs two "
            "or more, as each is judged by others"
        )
    if len(pictures) <= MOST_PICTURES:
        return pictures, order
    say(f"learning from {MOST_PICTURES} of {len(pictures)} pictures, which show all labels")
    rows = [*order, *(row for row in range(len(pictures)) if row not in set(order))]
    return pictures.take(rows[:MOST_PICTURES]), list(range(min(len(order), MOST_PICTURES)))


def _untuned(found: Found, order: Sequence[int], *, model: str, seg_type: SegType) -> Plain:
    """Return the context of all examples, or as many as one may have."""
    pictures, shown = found.pictures, order[:MOST_EXAMPLES]
    maps = label_maps(pictures)
    context = Context(
        labels=pictures.labels,
        passes=found.passes,
        arrays=HeadContext(
            images=tuple(pictures.images[row] for row in shown),
            maps=tuple(maps[row] for row in shown),
            more=None,
            heads=None,
        ),
        model=model,
        ensemble="feature",
        seg_type=seg_type,
    )
    count = f"all {len(shown)}" if len(shown) == len(order) else f"{len(shown)} of {len(order)}"
    return Plain(f"{count} examples", context, found.count(found.probabilities), tuple(shown))


def divide(total: int, order: Sequence[int]) -> list[list[int]]:
    """Divide pictures into folds that show about as much; `order` is of those that show something.

    With fewer than `FEW` pictures each is a fold.
    """
    rows = [*order, *(row for row in range(total) if row not in set(order))]
    count = FOLDS if total >= FEW else total
    return [sorted(rows[fold::count]) for fold in range(count)]


def find_by_others(
    engine: InContextEngine,
    pictures: Pictures,
    order: Sequence[int],
) -> Found:
    """Encode every picture once, and paint those of each fold by examples of the others.

    `order` has the pictures that can be examples, those that show most first.
    """
    folds = divide(len(pictures), order)
    passes = split_labels(pictures.labels, LABELS_PER_PASS)
    embeddings = [engine.encode_picture(image).embedding for image in pictures.images]
    # As many as leave a context's examples without any of the folds.
    shown = order[: MOST_EXAMPLES * len(folds) // (len(folds) - 1)]
    maps = label_maps(pictures)
    caches = {row: engine.encode_embedding(embeddings[row], maps[row], passes) for row in shown}
    probabilities: dict[int, Probabilities] = {}
    for fold in folds:
        others = [row for row in shown if row not in fold][:MOST_EXAMPLES]
        cache = join_caches([caches[row] for row in others])
        for row in fold:
            [probabilities[row]] = engine.find_embedded(embeddings[row], cache, passes)
    return Found(
        pictures, passes, embeddings, [probabilities[r] for r in range(len(probabilities))], folds
    )


class _Run:
    """The pictures as a bank, and heads that each learn from all folds but one."""

    def __init__(
        self,
        engine: InContextEngine,
        found: Found,
        config: TuneConfig,
        *,
        before: float,
        tell: Callable[[Progress], None],
    ) -> None:
        self.engine, self.found, self.config = engine, found, config
        self.before, self.tell = before, tell
        self.bank = _bank(engine, found)
        patch = engine.config.encoder.patch_size
        self.update = make_update(self.bank, patch=patch, turns=config.turns)

    def choose_steps(self, deadline: float) -> int:
        """Return the steps asked for, or as many as all heads have time for."""
        seconds: list[float] = []
        rows = range(len(self.found.pictures))
        self._learn(rows, PACE_STEPS, lambda step, loss: seconds.append(time.monotonic()))
        pace = (seconds[-1] - seconds[0]) / (PACE_STEPS - 1)
        affordable = int((deadline - time.monotonic()) / (len(self.found.folds) * pace))
        return min(self.config.steps, max(affordable, LEAST_STEPS))

    def learn(self, steps: int) -> tuple[PyTree, list[Probabilities], list[float]]:
        """Return a head of the others for each fold, what it finds there, and the losses."""
        corrected: dict[int, Probabilities] = {}
        heads, losses = [], []
        for number, fold in enumerate(self.found.folds):
            rows = [row for row in range(len(self.found.pictures)) if row not in fold]
            head, loss = self._learn(rows, steps, self._teller(number * steps, steps))
            heads.append(jax.tree.map(lambda a: a[None], head))
            losses.append(loss)
            for row in fold:
                embedding, probabilities = self.found.embeddings[row], self.found.probabilities[row]
                corrected[row] = self.engine.correct(embedding, probabilities, heads[-1])
        stacked = jax.tree.map(lambda *a: jnp.concatenate(a), *heads)
        return stacked, [corrected[row] for row in range(len(corrected))], losses

    def _teller(self, done: int, steps: int) -> Callable[[int, float], None]:
        """Return what tells of a head's steps; `done` are those of the heads before."""
        total, started = len(self.found.folds) * steps, time.monotonic()

        def tell(step: int, loss: float) -> None:
            left = (time.monotonic() - started) / step * (total - done - step)
            before = self.before
            self.tell(Progress(done + step, total, loss, before, before, before, left))

        return tell

    def _learn(
        self, rows: Sequence[int], steps: int, tell: Callable[[int, float], None]
    ) -> tuple[PyTree, float]:
        return learn_head(
            self.update,
            self.bank,
            rows,
            steps=steps,
            batch=self.config.batch_size,
            lr=self.config.lr or RATES["head"],
            average=self.config.average,
            seed=self.config.seed,
            tell=tell,
        )


def _bank(engine: InContextEngine, found: Found) -> Bank:
    tokens, pixels, guesses = [], [], []
    for embedding, probabilities in zip(found.embeddings, found.probabilities, strict=True):
        grid, fine = engine.head_inputs(embedding)
        tokens.append(np.asarray(grid[0]))
        pixels.append(np.asarray(fine[0]))
        guesses.append(np.asarray(guess_of(jnp.asarray(probabilities), fine)[0]))
    return fill_bank(tokens, pixels, guesses, found.pictures.class_ids)
