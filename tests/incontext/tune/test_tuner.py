"""Tuning as a whole, on the smallest model: what must hold whatever is reached."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from incontext import Context
from incontext.tune import baselines, prepare, tuner
from incontext.tune.baselines import Plain
from incontext.tune.config import TuneConfig
from incontext.tune.loop import count_views, learn_prompt, learning_rate, start_state
from incontext.tune.prompt import Prompt
from incontext.tune.report import format_table, write_page
from incontext.tune.resume import state_path
from incontext.tune.run import Run
from incontext.tune.scores import no_counts
from incontext.tune.step import ADAM, draw_view, make_step
from incontext.tune.tuner import tune_prompt
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights import load_weights, save_weights
from tests.tiny_models import tiny_segmenter

SMALL = TuneConfig(steps=8, batch_size=2, views=4, reuse=1, lr=0.05, patience=100, prompts=1)


@pytest.fixture(scope="module")
def tuned(segmenter, examples):
    return tune_prompt(segmenter, examples, config=SMALL)


def test_the_model_does_not_change(segmenter, examples, models):
    before = [np.asarray(leaf).copy() for leaf in jax.tree.leaves(segmenter.engine.params)]
    tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, steps=2))
    for one, other in zip(before, jax.tree.leaves(segmenter.engine.params), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other))
    assert segmenter.fingerprint == models().fingerprint


@pytest.fixture(scope="module")
def plain_run(segmenter, examples):
    """A run on all pictures and what it learns from, without the scores before it."""
    config = tuner.resolve(dataclasses.replace(SMALL, views=100, pool_bytes=50_000), segmenter)
    pictures = tuner.read_pictures(examples, side=24)
    config = prepare.fill(config, segmenter.engine, pictures)
    plains = [Plain("1 example", segmenter.context(examples[:1]), no_counts(1), (0,))]
    return prepare.prepare_run(
        segmenter.engine, pictures, pictures, plains, config=config, seg_type="semantic"
    )


def test_the_loss_falls(plain_run):
    run, learned = plain_run
    pictures = run.pictures
    views = [
        draw_view(pictures.images[i], pictures.class_ids[i], jax.random.key(i), config=run.config)
        for i in range(2)
    ]
    pool = jax.tree.map(lambda *a: jnp.stack(a), *views)
    step = make_step(run.prompt, run.palette, run.config)
    learned, average = (jax.tree.map(jnp.copy, learned) for _ in range(2))
    moments, losses = ADAM.init(learned), []
    parts, rate, keep = np.array([[0], [1]]), jnp.float32(0.2), jnp.float32(0.5)
    for _ in range(30):
        learned, moments, average, loss = step(
            run.params, learned, moments, average, pool, parts, rate, keep
        )
        losses.append(float(loss))
    # Weights that were never trained hardly look at a prompt: it falls a little, but steadily.
    assert losses[-1] < losses[9] < losses[0] - 0.003


def test_the_same_seed_gives_the_same_bytes(segmenter, examples, tuned, tmp_path):
    again = tune_prompt(segmenter, examples, config=SMALL)
    other = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, seed=1))
    files = []
    for name, result in (("a", tuned), ("b", again), ("c", other)):
        result.tuned_context.save(tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize(
    ("attention", "learn"),
    [("prefix", "tokens"), ("prefix", "pixels"), ("mutual", "tokens"), ("mutual", "pixels")],
)
def test_every_kind_is_learned_saved_and_used(models, examples, attention, learn, tmp_path):
    segmenter = models(attention)
    config = dataclasses.replace(SMALL, learn=learn, steps=2, prompts=2)
    result = tune_prompt(segmenter, examples, config=config)
    result.tuned_context.save(tmp_path / "p.safetensors")
    loaded = Context.load(tmp_path / "p.safetensors")
    one, other = (
        segmenter.segment(examples[0].image, c).probabilities_lowres
        for c in (result.tuned_context, loaded)
    )
    np.testing.assert_array_equal(one, other)
    assert loaded.about["learn"] == learn


def test_a_prompt_knows_what_it_is(segmenter, two_labels, tmp_path):
    result = tune_prompt(
        segmenter, two_labels, config=SMALL, names={3: "crop", 4: "weed"}, command="seggpt tune x"
    )
    result.tuned_context.save(tmp_path / "p.safetensors")
    loaded = Context.load(tmp_path / "p.safetensors")
    assert (loaded.labels, loaded.names) == ((3, 4), {3: "crop", 4: "weed"})
    assert loaded.about["command"] == "seggpt tune x"
    assert set(loaded.about["iou"]) == set(loaded.about["colors"]) == {"3", "4"}
    assert loaded.threshold == result.threshold
    assert segmenter.segment(two_labels[0].image, loaded).threshold == result.threshold
    assert segmenter.segment(two_labels[0].image, loaded, threshold=0.4).threshold == 0.4


def test_another_model_refuses_the_prompt(models, tuned, examples):
    with pytest.raises(PromptError, match="made by model"):
        models(seed=1).segment(examples[0].image, tuned.context)


def test_example_pairs_can_be_added_to_a_prompt(segmenter, tuned, example):
    context = segmenter.context([example(20)], like=tuned.tuned_context)
    grid = segmenter.config.grid**2
    assert context.arrays.blocks[0][0].shape[1] == 2 * grid
    assert context.threshold == tuned.threshold
    one, other = (
        segmenter.segment(example(21).image, c).probabilities_lowres
        for c in (context, tuned.tuned_context)
    )
    assert np.abs(one - other).max() > 0
    with pytest.raises(PromptError, match="label 2 is not one of the prompt's labels"):
        segmenter.context([example(20, label=2)], like=tuned.tuned_context)


def test_what_does_not_beat_the_examples_is_not_kept(segmenter, examples, tmp_path):
    # A rate of nothing: the prompt stays one rounded example, no better than the best context.
    result = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, lr=1e-12, steps=2))
    if result.is_tuned:
        assert result.score >= result.plains[0].score
        return
    assert "the plain examples do better" in result.verdict
    assert result.context.about["learn"] == "nothing"
    assert result.context.labels == result.plains[0].context.labels
    result.context.save(tmp_path / "plain.safetensors")
    assert Context.load(tmp_path / "plain.safetensors").threshold == result.plains[0].threshold


def test_the_plain_context_is_kept_when_every_prompt_is_worse(segmenter, examples, monkeypatch):
    score = baselines.score_context

    def share(part):
        def scored(segmenter, context, pictures):
            counts = score(segmenter, context, pictures)
            counts.hits[:] = part * counts.marked
            counts.wrong[:] = 0
            return counts

        return scored

    monkeypatch.setattr(baselines, "score_context", share(0.9))
    monkeypatch.setattr(tuner, "score_context", share(0.8))
    result = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, steps=2))
    assert not result.is_tuned
    assert result.verdict.startswith("the plain examples do better: mean IoU")
    assert "their context is kept" in result.verdict
    assert result.context.arrays is result.plains[0].context.arrays
    # What is as good as the examples is kept.
    monkeypatch.setattr(tuner, "score_context", share(0.9))
    result = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, steps=2))
    assert result.is_tuned
    assert result.verdict.startswith("tuned: mean IoU")
    assert result.context.arrays is result.tuned_context.arrays


def test_a_prompt_looks_closer_where_that_is_better(examples, monkeypatch, tmp_path):
    segmenter = tiny_segmenter(rel_pos=False)
    score = baselines.score_context

    def better_if_large(segmenter, context, pictures):
        counts = score(segmenter, context, pictures)
        counts.hits[:] = counts.marked if context.detail == "large" else 0
        return counts

    monkeypatch.setattr(baselines, "score_context", better_if_large)
    config = dataclasses.replace(SMALL, steps=2, learn="cache")
    result = tune_prompt(segmenter, examples, config=config)
    assert result.plains[0].name.endswith(", large")
    assert result.plains[0].context.detail == "large"
    result.tuned_context.save(tmp_path / "p.safetensors")
    assert Context.load(tmp_path / "p.safetensors").detail == "large"


def test_ctrl_c_at_the_larger_look_keeps_what_was_learned(examples, monkeypatch):
    score = baselines.score_context
    looks = []

    def interrupted_if_large(segmenter, context, pictures):
        looks.append(context.detail)
        if looks.count("large") > 1:  # the first is the one of the best examples
            raise KeyboardInterrupt
        return score(segmenter, context, pictures)

    monkeypatch.setattr(baselines, "score_context", interrupted_if_large)
    config = dataclasses.replace(SMALL, steps=2, learn="cache")
    result = tune_prompt(tiny_segmenter(rel_pos=False), examples, config=config)
    assert (result.ending, result.tuned_context.detail) == ("interrupted", "plain")
    assert result.history[-1][0] == 2


def test_another_format_is_refused(segmenter, examples, tmp_path):
    path = tmp_path / "c.safetensors"
    segmenter.context(examples[:1]).save(path)
    saved = load_weights(path)
    assert saved.config["format"] == "seggpt-context-1"
    save_weights(path, saved.params, config={**saved.config, "format": "seggpt-context-7"})
    with pytest.raises(CheckpointError, match="format 'seggpt-context-7', and this version reads"):
        Context.load(path)
    save_weights(path, saved.params, config={**saved.config, "format": "something else"})
    with pytest.raises(CheckpointError, match="not a saved context"):
        Context.load(path)


def test_a_detail_of_a_newer_version_is_refused(segmenter, examples, tmp_path):
    path = tmp_path / "c.safetensors"
    segmenter.context(examples[:1]).save(path)
    saved = load_weights(path)
    save_weights(path, saved.params, config={**saved.config, "detail": "huge"})
    with pytest.raises(CheckpointError, match="unknown detail 'huge'"):
        Context.load(path)


def interrupt_at(step):
    """Return a listener that presses Ctrl-C at a step."""

    def tell(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return tell


def test_ctrl_c_keeps_the_best_so_far(segmenter, examples):
    result = tune_prompt(segmenter, examples, config=SMALL, tell=interrupt_at(5))
    assert result.ending == "interrupted"
    assert [step for step, _, _ in result.history] == [2, 4]
    assert result.tuned_context.about["steps"] == 4


def test_a_resumed_run_equals_one_that_never_stopped(segmenter, examples, tuned, tmp_path):
    out = tmp_path / "p.safetensors"
    tune_prompt(segmenter, examples, config=SMALL, tell=interrupt_at(5), state_for=out)
    assert state_path(out).exists()
    resumed = tune_prompt(segmenter, examples, config=SMALL, state_for=out, resume=True)
    assert resumed.history == tuned.history
    for name, result in (("a", tuned), ("b", resumed)):
        result.tuned_context.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(PromptError, match="left by a run with other pictures, settings or weights"):
        tune_prompt(segmenter, examples[1:], config=SMALL, state_for=out, resume=True)


def test_a_run_stops_when_nothing_improves_or_time_is_up(segmenter, examples):
    flat = dataclasses.replace(SMALL, lr=1e-12, patience=1)
    result = tune_prompt(segmenter, examples, config=flat)
    assert (result.ending, len(result.history)) == ("patience", 2)
    result = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, minutes=1e-6))
    assert (result.ending, result.history) == ("minutes", [])


def test_one_picture_is_learned_from_and_said_to_judge_itself(segmenter, examples):
    result = tune_prompt(segmenter, examples[:1], config=dataclasses.replace(SMALL, steps=2))
    assert "its own pictures (too few to hold out)" in result.verdict


def test_many_labels_fit_a_file(segmenter, monkeypatch):
    palettes = {}
    for most in (8_000_000, 60_000):
        monkeypatch.setattr(prepare, "MAX_PROMPT_BYTES", most)
        run = Prompt(segmenter.engine.graphdef, segmenter.config, "cache", 1, 0)
        config = dataclasses.replace(SMALL, learn="cache")
        palettes[most] = prepare.choose_palette(
            run, segmenter.engine.params, range(1, 81), config=config
        ).passes
    assert [len(part) for part in palettes[8_000_000]] == [4] * 20
    assert 1 < len(palettes[60_000]) < 20


@pytest.mark.parametrize(("most", "pairs"), [(8_000_000, 3), (1, 1)])
def test_a_prompt_has_as_many_pairs_as_its_file_may_hold(
    segmenter, mutual, examples, most, pairs, monkeypatch
):
    monkeypatch.setattr(prepare, "MAX_PROMPT_BYTES", most)
    pictures = tuner.read_pictures(examples, side=24)
    found = [
        prepare.fill(tuner.resolve(config, model), model.engine, pictures).prompts
        for model, config in (
            (segmenter, TuneConfig(start="best")),
            (segmenter, TuneConfig(start="spread")),
            (mutual, TuneConfig()),
        )
    ]
    assert found == [pairs, 1, 1]


def test_what_a_model_cannot_learn_is_refused(mutual, examples):
    with pytest.raises(PromptError, match="learn pixels or tokens"):
        tune_prompt(mutual, examples, config=dataclasses.replace(SMALL, learn="cache"))
    with pytest.raises(PromptError, match="--start spread needs --learn cache"):
        tune_prompt(mutual, examples, config=dataclasses.replace(SMALL, start="spread"))


def test_the_average_is_what_is_judged(plain_run, monkeypatch):
    run, learned = plain_run
    seen = []
    monkeypatch.setattr(Run, "counts", lambda self, kept: seen.append(kept) or no_counts(1))
    for average in (0.0, 0.9):
        config = dataclasses.replace(run.config, average=average, steps=4)
        again = dataclasses.replace(run, config=config)
        state = start_state(jax.tree.map(jnp.copy, learned))
        told = {"before": 0.0, "tell": lambda p: None, "keep": lambda s: None}
        learn_prompt(again, state, **told, deadline=float("inf"))
        assert seen[-1] is state.average
        same = jax.tree.map(lambda a, b: bool((a == b).all()), state.average, state.learned)
        assert all(jax.tree.leaves(same)) == (average == 0.0)


def test_a_run_short_of_time_makes_fewer_steps_whose_rate_falls_to_zero(plain_run, monkeypatch):
    run, learned = plain_run
    config = dataclasses.replace(run.config, steps=20, views=4)
    seconds, told, rates, kept, pace = [0.0], [], [], [], [1]
    monkeypatch.setattr("incontext.tune.loop.time.monotonic", lambda: seconds[0])
    monkeypatch.setattr(Run, "counts", lambda self, kept: no_counts(1))

    def update(self, learned, moments, average, pool, index, rate, keep):
        rates.append(float(rate))
        seconds[0] += 30 if len(rates) == 1 else pace[0]  # the first one compiles
        pace[:] = pace[1:] or pace
        return learned, moments, average, jnp.float32(1)

    monkeypatch.setattr(Run, "update", update)
    short = dataclasses.replace(run, config=config)
    given = {"before": 0.0, "tell": told.append, "keep": lambda state: kept.append(state.round)}
    ended = learn_prompt(short, start_state(learned), **given, deadline=36.5)
    assert ended.ending == "minutes"
    assert [progress.steps for progress in told] == [20, 20, 7, 7, 7, 7, 7]
    assert ended.state.history[-1][0] == 7
    assert kept == [1, 2, 3]  # not the fourth, which a run that goes on learns whole
    assert rates[-1] < learning_rate(short, 6, 20) / 4
    seconds[0] = 0
    rates.clear()
    told.clear()
    ended = learn_prompt(short, start_state(learned), **given, deadline=60.0)
    assert (ended.ending, len(rates), told[-1].steps) == ("steps", 20, 20)
    # Where it goes faster than at first, it makes more again.
    seconds[0], pace[:] = 0, [3, 3, 3, 1]
    rates.clear()
    told.clear()
    ended = learn_prompt(short, start_state(learned), **given, deadline=55.0)
    reckoned = [progress.steps for progress in told]
    assert reckoned[:6] == [20, 20, 9, 9, 11, 11]
    assert reckoned[-1] == len(rates) > 11
    assert rates[-1] < learning_rate(short, 6, 20) / 4
    assert seconds[0] <= 55


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 3, "micro_batch": 2},
        {"steps": -1},
        {"minutes": 0.0},
        {"scale": 0.0},
        {"average": 1.0},
        {"jitter": -0.1},
    ],
)
def test_settings_without_sense_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        TuneConfig(**changes)


def test_gradients_of_parts_add_up_to_those_of_the_batch(segmenter, examples):
    results = []
    for micro in (1, 2):
        config = dataclasses.replace(SMALL, steps=2, micro_batch=micro, balance=0.0)
        results.append(tune_prompt(segmenter, examples, config=config).history)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-2)


def test_the_report_has_every_context_and_label(tuned, segmenter, tmp_path):
    table = format_table(tuned)
    assert [line.split("  ")[0] for line in table.splitlines()][-1] == "tuned"
    assert len(table.splitlines()) == 2 + len(tuned.plains)
    write_page(tmp_path / "page.html", tuned, segmenter, command="seggpt tune a b")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<img alt="" src="data:image/png;base64,') == 4 * len(tuned.judged_by)
    assert "seggpt tune a b" in page


def test_the_segmenter_tunes_with_one_call(segmenter, examples):
    context = segmenter.tune(examples, config=dataclasses.replace(SMALL, steps=2))
    assert isinstance(context, Context)
    assert segmenter.tune(examples, steps=2, config=SMALL).about.keys() == context.about.keys()


def test_rounds_fit_in_the_memory_they_are_given(plain_run):
    run, _ = plain_run
    assert 2 <= count_views(run) < 100
