"""From labelled pictures to a prompt that beats them, or to the word that none does."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import jax
from jaxtyping import PyTree

from incontext.context import Context, Example, SegType
from incontext.tuning.baselines import Plain, score_context, score_plain
from incontext.tuning.config import TuneConfig
from incontext.tuning.loop import Ending, Progress, Run
from incontext.tuning.pictures import Pictures, hold_out, read_pictures
from incontext.tuning.prepare import fill, prepare_run
from incontext.tuning.prompt import round_half
from incontext.tuning.resume import load_state, run_key, save_state, state_path
from incontext.tuning.scores import SLACK, Counts
from seggpt.config import SegGPTConfig
from seggpt.errors import PromptError

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

# Pictures are kept at so many times the model's size, for crops to be cut from. An odd number makes
# the nearest label of a whole picture the one that it would be without this step.
SIDE, LARGE_SIDE = 3, 1
LARGE = 256  # model sizes above this count as large
STEPS = {"cache": 120, "tokens": 300, "pixels": 300}  # without being told
VIEW = 2 / 3  # of the model's size, where views may be smaller

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tuned:
    """What tuning came to.

    Attributes:
        context: The best there is: the tuned prompt, or the plain context that it did not beat.
        is_tuned: Which of the two.
        plains: What examples reach untuned, the best first.
        tuned: What the tuned prompt reaches on the same pictures.
        threshold: The one at which it does best.
        ending: Why the run ended.
        history: Step, loss and mean IoU after each round.
        judged: The pictures that the scores are of.
        held_out: Whether those were kept out of the learning.
        learned_from: The pictures that were learned from.
    """

    context: Context
    tuned_context: Context
    is_tuned: bool
    plains: Sequence[Plain]
    tuned: Counts
    threshold: float
    ending: Ending
    history: Sequence[tuple[int, float, float]]
    judged: Pictures
    held_out: bool
    learned_from: Pictures

    @property
    def score(self) -> float:
        """Mean IoU of the tuned prompt, in percent."""
        return self.tuned.mean(self.threshold)

    @property
    def verdict(self) -> str:
        """What came of it, in one line."""
        best = self.plains[0]
        where = "pictures held out" if self.held_out else "its own pictures (too few to hold out)"
        numbers = f"mean IoU {self.score:.1f} against {best.score:.1f} ({best.name}), {where}"
        if self.is_tuned:
            return f"tuned: {numbers}"
        return f"tuning did not beat the plain examples: {numbers}; the plain context is kept"


def tune_prompt(
    segmenter: "Segmenter",
    examples: Sequence[Example],
    *,
    config: TuneConfig | None = None,
    seg_type: SegType = "semantic",
    names: Mapping[int, str] | None = None,
    labels: Sequence[int] | None = None,
    tell: Callable[[Progress], None] | None = None,
    say: Callable[[str], None] | None = None,
    state_for: str | PathLike[str] | None = None,
    resume: bool = False,
    command: str = "",
) -> Tuned:
    """Learn a prompt from labelled pictures; no weight of the model changes.

    Ctrl-C ends the learning and keeps the best prompt so far. With `state_for`, the path of the
    prompt to be written, the run can be gone on with later by `resume`. `tell` is given every step,
    `say` what comes before and after them.

    Raises:
        PromptError: if the examples or the settings do not make sense for the model.
        InputError: if a picture or a mask cannot be used.
    """
    started = time.monotonic()
    say = say or (lambda text: None)
    config = resolve(config or TuneConfig(), segmenter)
    deadline = started + 60 * config.minutes
    size = segmenter.config.image_size
    side = size * (SIDE if size <= LARGE else LARGE_SIDE)
    say(f"reading {len(examples)} pictures, then scoring them untuned")
    pictures = read_pictures(examples, side=side, labels=labels)
    train_rows, held_rows = hold_out(pictures, config.hold_out, seed=config.seed)
    train = pictures.take(train_rows)
    held = pictures.take(held_rows) if held_rows else pictures
    config = fill(config, segmenter, train)
    plains = score_plain(segmenter, train, held, seg_type=seg_type, seed=config.seed)
    run, learned = prepare_run(segmenter, train, held, plains, config=config, seg_type=seg_type)
    state = run.begin(learned)
    key = run_key(config, pictures, segmenter.fingerprint)
    path = state_path(state_for) if state_for else None
    if resume and path and path.exists():
        state = load_state(path, state, key=key)
    ended = run.learn(
        state,
        before=plains[0].score,
        tell=tell or (lambda progress: None),
        keep=lambda state: save_state(path, state, key=key) if path else None,
        deadline=deadline,
    )
    about = {
        "learn": run.prompt.kind,
        "pictures": len(train),
        "held_out": len(held_rows),
        "steps": ended.state.history[-1][0] if ended.state.history else 0,
        "seed": config.seed,
        "command": command,
    }
    context = as_context(
        segmenter, run, ended.state.best, seg_type=seg_type, names=names or {}, about=about
    )
    counts = score_context(segmenter, context, held)
    ending = ended.ending
    if ending != "interrupted" and segmenter.sees_other_sizes:
        say("scoring the prompt and the best examples with a larger look")
        try:
            plains, (context, counts) = (
                _look_closer_untuned(segmenter, plains, held),
                _look_closer(segmenter, context, counts, held),
            )
        except KeyboardInterrupt:  # what was learned is kept, without the larger look
            ending = "interrupted"
    threshold = counts.best_threshold()
    score, best = counts.mean(threshold), plains[0]
    is_tuned = score > best.score
    about = {
        **context.about,
        "score": round(score, 2),
        "plain_score": round(best.score, 2),
        "iou": _by_label(pictures, counts.iou(threshold)),
    }
    context = dataclasses.replace(context, threshold=threshold, about=about)
    kept = context
    if not is_tuned:
        about = about | {"learn": "nothing", "score": round(best.score, 2), "examples": best.name}
        about["iou"] = _by_label(pictures, best.counts.iou(best.threshold))
        kept = dataclasses.replace(
            best.context, threshold=best.threshold, names=names or {}, about=about
        )
    return Tuned(
        context=kept,
        tuned_context=context,
        is_tuned=is_tuned,
        plains=plains,
        tuned=counts,
        threshold=threshold,
        ending=ending,
        history=ended.state.history,
        judged=held,
        held_out=bool(held_rows),
        learned_from=train,
    )


def _look_closer(
    segmenter: "Segmenter", context: Context, counts: Counts, held: Pictures
) -> tuple[Context, Counts]:
    """Return the context that looks at twice the model's size, if that is clearly better."""
    large = dataclasses.replace(context, detail="large")
    finer = score_context(segmenter, large, held)
    before, after = (c.mean(c.best_threshold()) for c in (counts, finer))
    return (large, finer) if after > (1 + SLACK) * before else (context, counts)


def _look_closer_untuned(
    segmenter: "Segmenter", plains: Sequence[Plain], held: Pictures
) -> Sequence[Plain]:
    """Let the best plain context look closer as well, so that a prompt does not win by that."""
    best = plains[0]
    context, counts = _look_closer(segmenter, best.context, best.counts, held)
    if context is best.context:
        return plains
    return [Plain(f"{best.name}, large", context, counts, best.rows), *plains]


def resolve(config: TuneConfig, segmenter: "Segmenter") -> TuneConfig:
    """Fill in what depends on the model.

    Raises:
        PromptError: if the model cannot learn what is asked for.
    """
    is_prefix = segmenter.config.attention == "prefix"
    if config.learn == "cache" and not is_prefix:
        raise PromptError(
            "--learn cache needs a model with prefix attention, and this one has mutual "
            "attention: learn pixels or tokens"
        )
    learn = config.learn
    if learn == "auto":
        learn = "cache" if is_prefix else "pixels"
    start = config.start
    if start == "spread" and learn != "cache":
        raise PromptError(f"--start spread needs --learn cache, and this run learns {learn}")
    if start == "auto":
        start = "spread" if learn == "cache" else "best"
    return dataclasses.replace(
        config,
        learn=learn,
        start=start,
        steps=config.steps or STEPS[learn],
        view_size=_view_size(config.view_size, segmenter.config),
    )


def _view_size(asked: int, model: SegGPTConfig) -> int:
    """Return the side of the views to learn from.

    Raises:
        PromptError: if the model cannot see views of the size asked for.
    """
    # Relative positions, and canvases, have the grid of the examples.
    fixed = model.attention == "mutual" or model.rel_pos
    if asked and (asked % model.patch_size or (fixed and asked != model.image_size)):
        raise PromptError(
            f"view_size {asked} does not suit this model: take {model.image_size}"
            + ("" if fixed else f" or another multiple of {model.patch_size}")
        )
    if asked or fixed:
        return asked or model.image_size
    return max(1, round(VIEW * model.grid)) * model.patch_size


def as_context(
    segmenter: "Segmenter",
    run: Run,
    learned: PyTree,
    *,
    seg_type: SegType,
    names: Mapping[int, str],
    about: Mapping[str, Any],
) -> Context:
    """Return a prompt as a context, rounded to what its file holds."""
    labels = run.pictures.labels
    arrays = jax.device_get(jax.jit(run.prompt.expand)(run.params, learned, run.frozen))
    depth = run.prompt.config.depth
    # The squares in the lookup's keys reach thousands: 16 bits are too few for them.
    arrays = (*round_half(arrays[:depth]), *arrays[depth:])
    colors = {
        str(labels[slot - 1]): "#" + "".join(f"{round(255 * c):02x}" for c in color)
        for part in run.palette.passes
        for slot, color in zip(part, run.palette.colors[1:], strict=False)
    }
    return Context(
        labels=labels,
        passes=tuple(tuple(labels[slot - 1] for slot in part) for part in run.palette.passes),
        arrays=arrays,
        model=segmenter.fingerprint,
        ensemble="feature",
        seg_type=seg_type,
        names=names,
        about={**about, "colors": colors},
    )


def _by_label(pictures: Pictures, values: Sequence[float | None]) -> dict[str, float | None]:
    return {
        str(label): None if value is None else round(value, 2)
        for label, value in zip(pictures.labels, values, strict=True)
    }
