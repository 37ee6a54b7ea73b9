"""Tuning from labelled images; returns the better of the tuned and the untuned context."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from incontext.examples.context import Context, Example, check_examples, names_of
from incontext.examples.engine import SegGPTEngine
from incontext.examples.matching_engine import MatchingEngine
from incontext.examples.segmenter import ExampleSegmenter
from incontext.options import Learned, SegType
from incontext.tune.baselines import Plain, look_closer, score_context, score_plain
from incontext.tune.config import TuneConfig
from incontext.tune.head_run import tune_head
from incontext.tune.loop import Progress, learn_prompt, start_state
from incontext.tune.outcome import Tuned as Tuned
from incontext.tune.outcome import describe
from incontext.tune.pictures import Pictures, hold_out, read_pictures
from incontext.tune.prepare import fill, prepare_run
from incontext.tune.resume import load_state, run_key, save_state, state_path
from incontext.tune.scores import Counts
from seggpt.config import SegGPTConfig
from seggpt.errors import PromptError

# Pictures are kept at so many times the model's size, for crops to be cut from. An odd number makes
# the nearest label of a whole picture the one that it would be without this step.
SIDE, LARGE_SIDE = 3, 1
LARGE = 256  # model sizes above this count as large
# Without being told:
STEPS: dict[Learned, int] = {"cache": 120, "tokens": 300, "pixels": 300, "head": 160}
MINUTES: dict[Learned, float] = {"cache": 10.0, "tokens": 10.0, "pixels": 10.0, "head": 3.0}
VIEW = 2 / 3  # of the model's size, where views may be smaller
LEARNING = 0.95  # of the time; in the rest what was learned is scored


def tune_prompt(
    segmenter: ExampleSegmenter,
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

    Ctrl-C ends the learning and keeps the best prompt so far; a head is whole or not at all. With
    `state_for`, the path of the prompt to be written, the run can be gone on with later by
    `resume`, unless it learns a head. `tell` is given every step, `say` what comes before and after
    them.

    Raises:
        PromptError: if the examples or the settings do not make sense for the model.
        InputError: if a picture or a mask cannot be used.
    """
    started = time.monotonic()
    say, tell = say or (lambda text: None), tell or (lambda progress: None)
    check_examples(examples)
    if isinstance(segmenter.engine, MatchingEngine):
        raise PromptError(
            "matching mode learns nothing; segment with these examples, or tune the shipped weights"
        )
    names = names or names_of(examples)
    config = resolve(config or TuneConfig(), segmenter)
    deadline = started + LEARNING * 60 * (config.minutes or 0)
    engine = segmenter.engine
    if not isinstance(engine, SegGPTEngine):
        if resume:
            say("a run that learns a head takes minutes and starts again")
        told = {"names": names, "labels": labels, "command": command, "seg_type": seg_type}
        told |= {"tell": tell, "say": say, "deadline": deadline}
        return tune_head(segmenter, examples, config=config, **told)
    state_file = state_path(state_for) if state_for else None
    how = _How(config, seg_type, names, command, deadline, tell, say)
    return _tune_arrays(
        segmenter, engine, examples, how, labels=labels, state_file=state_file, resume=resume
    )


@dataclass(frozen=True)
class _How:
    """What a run is told."""

    config: TuneConfig
    seg_type: SegType
    names: Mapping[int, str]
    command: str
    deadline: float
    tell: Callable[[Progress], None]
    say: Callable[[str], None]


def _tune_arrays(
    segmenter: ExampleSegmenter,
    engine: SegGPTEngine,
    examples: Sequence[Example],
    how: _How,
    *,
    labels: Sequence[int] | None,
    state_file: Path | None,
    resume: bool,
) -> Tuned:
    """Learn what a SegGPT is shown: pixels, tokens, or keys and values."""
    config = how.config
    size = engine.config.image_size
    side = size * (SIDE if size <= LARGE else LARGE_SIDE)
    how.say(f"reading {len(examples)} pictures, then scoring them untuned")
    pictures = read_pictures(examples, side=side, labels=labels)
    train_rows, held_rows = hold_out(pictures, config.hold_out, seed=config.seed)
    train = pictures.take(train_rows)
    held = pictures.take(held_rows) if held_rows else pictures
    key = run_key(config, pictures, segmenter.fingerprint)

    config = fill(config, engine, train)
    plains = score_plain(segmenter, train, held, seg_type=how.seg_type, seed=config.seed)
    run, learned = prepare_run(engine, train, held, plains, config=config, seg_type=how.seg_type)
    state = start_state(learned)
    if resume and state_file and state_file.exists():
        state = load_state(state_file, state, key=key)
    ended = learn_prompt(
        run,
        state,
        before=plains[0].score,
        tell=how.tell,
        keep=lambda state: save_state(state_file, state, key=key) if state_file else None,
        deadline=how.deadline,
    )

    context, ending, history = run.context(ended.state.best), ended.ending, ended.state.history
    counts = score_context(segmenter, context, held)
    if ending != "interrupted":
        try:
            context, counts = look_closer(segmenter, context, counts, held)
        except KeyboardInterrupt:  # what was learned is kept, without the larger look
            ending = "interrupted"
    about = {**context.about, "steps": history[-1][0] if history else 0}
    about |= {"learn": config.learn, "pictures": len(train), "held_out": len(held_rows)}
    about |= {"seed": config.seed, "command": how.command}
    about |= {"plain_score": round(plains[0].score, 2)}
    return _weigh(plains, context, counts, held, names=how.names, about=about)(
        ending=ending,
        history=history,
        learned_from=train,
        judged_by=held,
        judging="pictures held out" if held_rows else "its own pictures (too few to hold out)",
    )


def _weigh(
    plains: Sequence[Plain],
    context: Context,
    counts: Counts,
    held: Pictures,
    *,
    names: Mapping[int, str],
    about: Mapping[str, Any],
) -> partial[Tuned]:
    """Describe the tuned context and the best plain one."""
    best = plains[0]
    told = partial(describe, held=held, names=names)
    instead = {**about, "learn": "nothing", "examples": best.name}
    return partial(
        Tuned,
        tuned_context=told(context, counts, about=about),
        plain_context=told(best.context, best.counts, about=instead),
        plains=plains,
        tuned=counts,
    )


def resolve(config: TuneConfig, segmenter: ExampleSegmenter) -> TuneConfig:
    """Fill in what depends on the model.

    Raises:
        PromptError: if the model cannot learn what is asked for.
    """
    engine = segmenter.engine
    if not isinstance(engine, SegGPTEngine):
        return _resolve_head(config)
    if config.learn == "head":
        raise PromptError(
            "--learn head needs an in-context model on an encoder, and this is a SegGPT: leave "
            "--learn out, or take other weights (--model)"
        )
    is_prefix = engine.config.attention == "prefix"
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
    return replace(
        config,
        learn=learn,
        start=start,
        steps=config.steps or STEPS[learn],
        minutes=config.minutes or MINUTES[learn],
        view_size=_view_size(config.view_size, engine.config),
    )


def _resolve_head(config: TuneConfig) -> TuneConfig:
    if config.learn not in ("auto", "head"):
        raise PromptError(
            f"--learn {config.learn} needs a SegGPT, and this model learns a head: leave --learn "
            "out, or take other weights (--model)"
        )
    if config.start != "auto" or config.prompts or config.hold_out is not None:
        raise PromptError(
            "--start, --prompts and --hold-out are not for --learn head, which shows all pictures "
            "and leaves each out in turn: leave them out"
        )
    return replace(
        config,
        learn="head",
        steps=config.steps or STEPS["head"],
        minutes=config.minutes or MINUTES["head"],
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
