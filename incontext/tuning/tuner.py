"""From labelled pictures to a prompt that beats them, or to the word that none does."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING

from jaxtyping import PyTree

from incontext.adaptation import LOOKS, adapter_size
from incontext.context import Context, Example, SegType
from incontext.tuning.baselines import Plain, Trial
from incontext.tuning.config import BATCHES, Learned, TuneConfig
from incontext.tuning.learning import Judging, Session, learn_crossed, learn_held_out
from incontext.tuning.loop import Ending, Progress, Run, RunState
from incontext.tuning.pictures import Pictures, read_pictures
from incontext.tuning.resume import load_state, run_key, save_state, state_path
from incontext.tuning.scores import Counts
from seggpt.config import SegGPTConfig
from seggpt.errors import PromptError

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

# Pictures are kept at so many times the model's size, for crops to be cut from. An odd number makes
# the nearest label of a whole picture the one that it would be without this step.
SIDE, LARGE_SIDE = 3, 1
LARGE = 256  # model sizes above this count as large
# Without being told.
STEPS: dict[Learned, int] = {"cache": 120, "tokens": 300, "pixels": 300, "adapter": 600}
VIEW = 2 / 3  # of the model's size, where views may be smaller
SPREAD = ("cache", "adapter")  # kinds that can start from tokens of many pictures
CROSSED = 32  # pictures up to which an adapter is judged by leaving out each part in turn
LEARNING = 0.95  # of the time; in the rest what was learned is scored
TOGETHER = 1.1  # how much better adapters do together than the one that is scored on a picture
FEWEST = 4  # pictures that show something, for an adapter to learn from
MOST_PAINTED = 1_000_000_000  # bytes of what is painted on the pictures that an adapter learns from

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
        trials: Contexts made like the prompt, and the pictures that judged them.
        judging: How those were kept out of the learning.
        learned_from: The pictures that were learned from.
    """

    context: Context
    tuned_context: Context
    is_tuned: bool
    plains: Sequence[Plain]
    tuned: Counts
    threshold: float
    ending: Ending
    history: Sequence[tuple[int, float, float | None]]
    trials: tuple[Trial, ...]
    judging: Judging
    learned_from: Pictures

    @property
    def score(self) -> float:
        """Mean IoU of the tuned prompt, in percent."""
        return self.tuned.mean(self.threshold)

    @property
    def verdict(self) -> str:
        """What came of it, in one line."""
        best = self.plains[0]
        numbers = f"mean IoU {self.score:.1f} against {best.score:.1f} ({best.name})"
        numbers += f", {self.judging}"
        if self.is_tuned and self.score > best.score:
            return f"tuned: {numbers}"
        if self.is_tuned:
            return f"tuned: {numbers}; one adapter is scored on each, and all together do better"
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
    asked = config or TuneConfig()
    config = resolve(asked, segmenter)
    size = segmenter.config.image_size
    side = size * (SIDE if size <= LARGE else LARGE_SIDE)
    say(f"reading {len(examples)} pictures, then scoring them untuned")
    pictures = read_pictures(examples, side=side, labels=labels)
    if config.learn == "adapter" and (trouble := _adapter_trouble(pictures, config, segmenter)):
        if asked.learn == "adapter":
            raise PromptError(f"--learn adapter {trouble}: take --learn cache")
        config = resolve(dataclasses.replace(asked, learn="cache"), segmenter)
    path = state_path(state_for) if state_for else None
    key = run_key(config, pictures, segmenter.fingerprint)

    def begin(run: Run, learned: PyTree) -> RunState:
        fresh = run.begin(learned)
        is_left = resume and path and path.exists()
        return load_state(path, fresh, key=key) if path and is_left else fresh

    session = Session(
        segmenter=segmenter,
        config=config,
        seg_type=seg_type,
        deadline=started + LEARNING * 60 * config.minutes,
        tell=tell or (lambda progress: None),
        say=say,
        begin=begin,
        keep=lambda state: save_state(path, state, key=key) if path else None,
    )
    is_crossed = config.learn == "adapter" and config.hold_out is None and len(pictures) <= CROSSED
    learn = learn_crossed if is_crossed else learn_held_out
    found = learn(session, pictures)
    counts, plains = found.counts, found.plains
    threshold = counts.best_threshold()
    score, best = counts.mean(threshold), plains[0]
    answers_together = is_crossed and bool(found.history)
    is_tuned = score * (TOGETHER if answers_together else 1.0) > best.score
    about = {
        **found.context.about,
        "learn": config.learn,
        "pictures": len(found.learned_from),
        "held_out": len(pictures) - len(found.learned_from),
        "steps": found.history[-1][0] if found.history else 0,
        "seed": config.seed,
        "command": command,
        "score": round(score, 2),
        "plain_score": round(best.score, 2),
        "iou": _by_label(pictures, counts.iou(threshold)),
    }
    known = {"names": names or {}}
    context = dataclasses.replace(found.context, threshold=threshold, about=about, **known)
    kept = context
    if not is_tuned:
        about = about | {"learn": "nothing", "score": round(best.score, 2), "examples": best.name}
        about["iou"] = _by_label(pictures, best.counts.iou(best.threshold))
        kept = dataclasses.replace(best.context, threshold=best.threshold, about=about, **known)
    return Tuned(
        context=kept,
        tuned_context=context,
        is_tuned=is_tuned,
        plains=plains,
        tuned=counts,
        threshold=threshold,
        ending=found.ending,
        history=found.history,
        trials=found.trials,
        judging=found.judging,
        learned_from=found.learned_from,
    )


def resolve(config: TuneConfig, segmenter: "Segmenter") -> TuneConfig:
    """Fill in what depends on the model.

    Raises:
        PromptError: if the model cannot learn what is asked for.
    """
    is_prefix = segmenter.config.attention == "prefix"
    if config.learn == "adapter" and not segmenter.sees_other_sizes:
        raise PromptError(
            "--learn adapter needs a model with prefix attention and without relative positions, "
            "such as seggpt-tiny: learn pixels or tokens"
        )
    if config.learn == "cache" and not is_prefix:
        raise PromptError(
            "--learn cache needs a model with prefix attention, and this one has mutual "
            "attention: learn pixels or tokens"
        )
    learn = config.learn
    if learn == "auto":
        spreads = segmenter.sees_other_sizes and config.start in ("auto", "spread")
        learn = "adapter" if spreads else "cache" if is_prefix else "pixels"
    start = config.start
    if start == "spread" and learn not in SPREAD:
        raise PromptError(f"--start spread needs --learn cache, and this run learns {learn}")
    if start not in ("auto", "spread") and learn == "adapter":
        raise PromptError(f"--learn adapter has no --start {start}: leave that out")
    if start == "auto":
        start = "spread" if learn in SPREAD else "best"
    batch = config.batch_size or BATCHES[learn]
    micro = 1 if learn == "adapter" else config.micro_batch  # which takes a batch at once
    if batch % micro:
        raise PromptError(f"batch_size {batch} is not a multiple of micro_batch {micro}")
    return dataclasses.replace(
        config,
        learn=learn,
        start=start,
        batch_size=batch,
        micro_batch=micro,
        steps=config.steps or STEPS[learn],
        view_size=_view_size(config.view_size, segmenter.config),
    )


def _adapter_trouble(pictures: Pictures, config: TuneConfig, segmenter: "Segmenter") -> str:
    """Return what keeps an adapter from learning from these pictures, if anything does."""
    shown = max(0, int((pictures.shares().sum(axis=1) > 0).sum()) - (config.hold_out or 0))
    if shown < FEWEST:
        return f"needs {FEWEST} pictures with something marked to learn from, and there are {shown}"
    size, labels = adapter_size(segmenter.config), len(pictures.labels)
    painted = 2 * len(pictures) * LOOKS * (labels + 1) * size**2
    if painted > MOST_PAINTED:
        return f"needs {painted / 1e9:.1f} GB for {len(pictures)} pictures and {labels} labels"
    return ""


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


def _by_label(pictures: Pictures, values: Sequence[float | None]) -> dict[str, float | None]:
    return {
        str(label): None if value is None else round(value, 2)
        for label, value in zip(pictures.labels, values, strict=True)
    }
