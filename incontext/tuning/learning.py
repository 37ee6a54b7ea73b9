"""Two ways to learn, and to score what was learned: by pictures held out, or left out in turn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import PyTree

from incontext.context import Context, SegType
from incontext.tuning.adapter_run import (
    AdapterRun,
    Crossed,
    cross_paint,
    divide,
    make_adapter_run,
)
from incontext.tuning.baselines import (
    Plain,
    Trial,
    best_single,
    cross_plain,
    look_closer,
    score_plain,
    score_trials,
)
from incontext.tuning.config import TuneConfig
from incontext.tuning.loop import Ended, Ending, Progress, Run, RunState
from incontext.tuning.pictures import Pictures, hold_out, warn_of_single
from incontext.tuning.prepare import fill, prepare_run
from incontext.tuning.scores import Counts

if TYPE_CHECKING:
    from incontext.segmenter import Segmenter

Judging = Literal[
    "pictures held out",
    "pictures left out in turn",
    "its own pictures (too few to hold out)",
]
"""Which pictures the scores are of."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What every way of learning is given."""

    segmenter: "Segmenter"
    config: TuneConfig
    seg_type: SegType
    deadline: float
    tell: Callable[[Progress], None]
    say: Callable[[str], None]
    begin: Callable[[Run, PyTree], RunState]  # afresh, or where a run was stopped
    keep: Callable[[RunState], None]

    def learn(self, run: Run, state: RunState, *, before: float) -> Ended:
        """Carry out the run whose prompt is saved."""
        return run.learn(
            state, before=before, tell=self.tell, keep=self.keep, deadline=self.deadline
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What learning came to, before it is judged."""

    plains: Sequence[Plain]
    context: Context
    counts: Counts
    trials: tuple[Trial, ...]
    ending: Ending
    history: Sequence[tuple[int, float, float | None]]
    judging: Judging
    learned_from: Pictures


def learn_held_out(session: Session, pictures: Pictures) -> Found:
    """Learn from some pictures, and score what was learned on the others."""
    segmenter, seg_type = session.segmenter, session.seg_type
    train_rows, held_rows = hold_out(pictures, session.config.hold_out, seed=session.config.seed)
    train = pictures.take(train_rows)
    held = pictures.take(held_rows) if held_rows else pictures
    config = fill(session.config, segmenter, train)
    plains = score_plain(segmenter, train, held, seg_type=seg_type, seed=config.seed)
    judging = "pictures held out" if held_rows else "its own pictures (too few to hold out)"
    if config.learn == "adapter":
        parts = divide(train, seed=config.seed)
        crossed = _paint(session, train, parts, [None] * len(parts), config)
        given = {"config": config, "seg_type": seg_type}
        run = make_adapter_run(segmenter, train, crossed, held, None, **given)
        return _learn_adapter(session, run, plains, judging=judging)
    run, learned = prepare_run(segmenter, train, held, plains, config=config, seg_type=seg_type)
    ended = session.learn(run, session.begin(run, learned), before=plains[0].score)
    context = run.context(ended.state.best)
    trials = (Trial(context, held),)
    counts = score_trials(segmenter, trials)
    return _found(segmenter, plains, context, counts, trials, ended, judging, train)


def learn_crossed(session: Session, pictures: Pictures) -> Found:
    """Learn adapters from all pictures but a part in turn, which judges those without it."""
    segmenter, seg_type = session.segmenter, session.seg_type
    config = fill(session.config, segmenter, pictures)
    warn_of_single(pictures)
    parts = divide(pictures, seed=config.seed)
    plains = cross_plain(segmenter, pictures, parts, seg_type=seg_type, seed=config.seed)
    single = best_single(plains)
    chosen = [row for trial in single.trials for row in trial.rows]
    crossed = _paint(session, pictures, parts, chosen, config)
    given = {"config": config, "seg_type": seg_type}
    run = make_adapter_run(segmenter, pictures, crossed, None, single.rows[0], **given)
    return _learn_adapter(session, run, plains, judging="pictures left out in turn")


def _paint(
    session: Session,
    pictures: Pictures,
    parts: Sequence[Sequence[int]],
    singles: Sequence[int | None],
    config: TuneConfig,
) -> Crossed:
    session.say(f"painting {len(pictures)} pictures, each by examples that do not include it")
    given = {"config": config, "seg_type": session.seg_type}
    return cross_paint(session.segmenter, pictures, parts, singles, **given)


def _learn_adapter(
    session: Session, run: AdapterRun, plains: Sequence[Plain], *, judging: Judging
) -> Found:
    count = len(run.members)
    each = f", {count} adapters without a part of them each" if count > 1 else ""
    session.say(f"learning from {len(run.pictures)} pictures{each}")
    ended = session.learn(run, session.begin(run, run.start()), before=plains[0].score)
    best = ended.state.best
    share, counts = run.choose_share(best)
    context, trials = run.context(best, share), run.trials(best, share)
    return _found(session.segmenter, plains, context, counts, trials, ended, judging, run.pictures)


def _found(
    segmenter: "Segmenter",
    plains: Sequence[Plain],
    context: Context,
    counts: Counts,
    trials: tuple[Trial, ...],
    ended: Ended,
    judging: Judging,
    learned_from: Pictures,
) -> Found:
    ending = ended.ending
    if ending != "interrupted":
        try:
            context, counts, trials = look_closer(segmenter, context, counts, trials)
        except KeyboardInterrupt:  # what was learned is kept, without the larger look
            ending = "interrupted"
    return Found(
        plains=plains,
        context=context,
        counts=counts,
        trials=trials,
        ending=ending,
        history=ended.state.history,
        judging=judging,
        learned_from=learned_from,
    )
