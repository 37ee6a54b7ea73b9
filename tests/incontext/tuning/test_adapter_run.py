"""Adapters learn from pictures painted by others, and go wherever their context goes."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from incontext import Context, Example
from incontext.adaptation import Adaptation
from incontext.detail import resize_planes
from incontext.squeeze import squeeze_labels
from incontext.tuning import adapter_run, baselines
from incontext.tuning.adapter_run import (
    SHARES,
    all_but,
    cross_paint,
    divide,
    make_adapter_run,
    make_base,
    paint_pictures,
)
from incontext.tuning.baselines import cross_plain
from incontext.tuning.config import TuneConfig
from incontext.tuning.pictures import read_pictures
from incontext.tuning.prepare import fill
from incontext.tuning.report import write_page
from incontext.tuning.resume import state_path
from incontext.tuning.tuner import resolve, tune_prompt
from seggpt.errors import CheckpointError, PromptError
from seggpt.weights import load_weights, save_weights
from tests.tiny_models import tiny_segmenter

SMALL = TuneConfig(steps=6, batch_size=2, views=4, reuse=1, cells=64, patience=1)


@pytest.fixture(scope="module")
def segmenter():
    """A model that sees pictures of other sizes than its examples."""
    return tiny_segmenter(rel_pos=False)


@pytest.fixture(scope="module")
def tuned(segmenter, examples):
    return tune_prompt(segmenter, examples, config=SMALL)


def test_every_picture_is_painted_by_the_others(segmenter, examples):
    pictures = read_pictures(examples, side=48)
    config = fill(resolve(SMALL, segmenter), segmenter, pictures)
    parts = divide(pictures, seed=0)
    singles = [all_but(part, 8)[0] for part in parts]
    given = {"config": config, "seg_type": "semantic"}
    crossed = cross_paint(segmenter, pictures, parts, singles, **given)
    assert sorted(row for part in crossed.parts for row in part) == list(range(8))
    # What a picture's own mask says must not change how it is painted.
    rows = crossed.parts[0]
    other = dataclasses.replace(pictures, slots=pictures.slots.copy())
    other.slots[rows[0]] = 1 - other.slots[rows[0]]
    assert divide(other, seed=0) == crossed.parts
    again = cross_paint(segmenter, other, parts, singles, **given)
    np.testing.assert_array_equal(again.painted[rows], crossed.painted[rows])
    rest = all_but(rows, 8)
    assert np.abs(again.painted[rest].astype(float) - crossed.painted[rest]).max() > 0


def test_adapters_are_told_three_looks(segmenter, examples):
    pictures = read_pictures(examples, side=48)
    config = fill(resolve(SMALL, segmenter), segmenter, pictures)
    given = {"config": config, "seg_type": "semantic"}
    base = make_base(segmenter, pictures, range(8), 3, **given)
    bare = dataclasses.replace(base, adaptation=None)
    assert base.adaptation is not None
    assert base.adaptation.example is not None
    image, slots = base.adaptation.example
    assert image.shape[:2] == slots.shape == (segmenter.config.image_size,) * 2
    alone = segmenter.context([Example(image, slots.astype(np.int32), kind="labels")])
    target = pictures.images[5]
    looks = [
        segmenter.segment(target, context, detail=detail).probabilities_lowres
        for context, detail in (
            (bare, "large"),
            (bare, "plain"),
            (alone, "large"),
            (alone, "plain"),
        )
    ]
    resized = [resize_planes(look, (64, 64)) for look in looks]
    *resized, smaller = resized
    assert np.abs(resized[0] - resized[2]).max() > 1e-3
    found = segmenter.segment(target, base).probabilities_lowres
    np.testing.assert_allclose(found, np.mean(resized, axis=0), atol=1e-5)
    usual = segmenter.segment(target, base, detail="plain").probabilities_lowres
    twice = [resized[1], resized[1], smaller]  # the large looks are given up
    np.testing.assert_allclose(usual, np.mean(twice, axis=0), atol=1e-5)
    [told] = paint_pictures(segmenter, base, pictures.take([5]))
    np.testing.assert_allclose(told, resized, atol=1e-3)


def test_the_others_of_every_part_show_something(example):
    marked = [example(0), example(1), example(2), example(3)]
    empty = [example(seed, bright=False) for seed in range(4, 10)]
    pictures = read_pictures([*empty, *marked], side=24)
    shown = pictures.shares()[:, 0] > 0
    for part in divide(pictures, seed=0):
        assert shown[all_but(part, 10)].sum() == 3


def test_all_pictures_are_learned_from_and_judge_in_turn(tuned, examples):
    assert tuned.judging == "pictures left out in turn"
    assert len(tuned.learned_from) == sum(len(t.pictures) for t in tuned.trials) == len(examples)
    assert tuned.tuned.marked.sum() == (tuned.learned_from.slots == 1).sum()
    assert tuned.tuned_context.about["learn"] == "adapter"
    assert tuned.tuned_context.about["steps"] == SMALL.steps  # patience does not end it
    assert tuned.tuned_context.detail == "large"
    assert len(tuned.tuned_context.adaptation.members) == 4
    assert tuned.tuned_context.adaptation.example is not None


def test_it_changes_what_is_found_and_comes_back_from_its_file(
    segmenter, tuned, examples, tmp_path
):
    path = tmp_path / "p.safetensors"
    adaptation = dataclasses.replace(tuned.tuned_context.adaptation, share=0.35)
    saved = dataclasses.replace(tuned.tuned_context, adaptation=adaptation)
    saved.save(path)
    loaded = Context.load(path)
    bare = dataclasses.replace(loaded, adaptation=None)
    found = [
        segmenter.segment(examples[0].image, context).probabilities_lowres
        for context in (saved, loaded, bare)
    ]
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
    assert found[0].shape == (2, 64, 64)
    np.testing.assert_allclose(found[0].sum(axis=0), 1, atol=1e-5)
    assert np.abs(found[0] - resize_planes(found[2], (64, 64))).max() > 0.001
    # Closer looks and batches are corrected, too.
    sizes = {
        detail: segmenter.segment(
            examples[0].image, loaded, detail=detail
        ).probabilities_lowres.shape[1:]
        for detail in ("plain", "tiles")
    }
    assert sizes["plain"] == (64, 64)
    assert sizes["tiles"] == (20, 30)  # as fine as the picture at most
    results = segmenter.segment_many([e.image for e in examples[:3]], loaded, batch_size=2)
    np.testing.assert_allclose(next(results).probabilities_lowres, found[0], atol=1e-4)


def test_adapters_answer_together(segmenter, tuned, examples):
    """What they say is averaged, then with the mean look; every second one sees a mirror image."""
    size, members = tuned.tuned_context.adaptation.size, tuned.tuned_context.adaptation.members
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (size, size, 3)).astype(np.uint8)
    looks = rng.dirichlet(np.ones(2), (3, size, size)).astype(np.float32).transpose(0, 3, 1, 2)

    def say(*chosen, mirrored=False, share=0.0):
        turn = -1 if mirrored else 1
        turned = ([look[:, :, ::turn]] for look in looks)
        adaptation = Adaptation(size, chosen, share=share)
        return adaptation.correct([picture[:, ::turn]], *turned)[0][:, :, ::turn]

    first, second = members[:2]
    both = (say(first) + say(second, mirrored=True)) / 2
    np.testing.assert_allclose(say(first, second), both, atol=1e-5)
    heard = 0.7 * both + 0.3 * looks.mean(axis=0)
    np.testing.assert_allclose(say(first, second, share=0.3), heard, atol=1e-5)
    assert np.abs(say(first) - say(second, mirrored=True)).max() > 1e-3


def test_adapters_may_be_scored_a_little_lower_than_examples(segmenter, examples, monkeypatch):
    config = dataclasses.replace(SMALL, steps=2)
    for factor, is_tuned in ((1e9, True), (0.0, False)):
        monkeypatch.setattr("incontext.tuning.tuner.TOGETHER", factor)
        result = tune_prompt(segmenter, examples, config=config)
        assert result.is_tuned == is_tuned
        assert (result.context.adaptation is not None) == is_tuned
        is_higher = result.score > result.plains[0].score
        assert ("all together do better" in result.verdict) == (is_tuned and not is_higher)


def test_damaged_adapters_are_refused(tuned, tmp_path):
    path = tmp_path / "p.safetensors"
    tuned.tuned_context.save(path)
    saved = load_weights(path)
    for damage in (
        lambda params: params["adapter"]["head"]["kernel"].pop("scale"),
        lambda params: params["example"].pop("slots"),
        lambda params: params.pop("example"),
        lambda params: params["example"].update(slots=params["example"]["slots"][:-1]),
        lambda params: params["example"].update(slots=params["example"]["slots"] + 9),
    ):
        params = jax.tree.map(np.asarray, saved.params)  # a copy of the tree
        damage(params)
        save_weights(path, params, config=saved.config)
        with pytest.raises(CheckpointError, match="its adapters are damaged; tune the prompt"):
            Context.load(path)
    for share in (1.5, "half", None):
        save_weights(path, saved.params, config={**saved.config, "look_share": share})
        with pytest.raises(CheckpointError, match="its adapters are damaged; tune the prompt"):
            Context.load(path)


def test_another_format_is_refused(tuned, tmp_path):
    path = tmp_path / "p.safetensors"
    tuned.tuned_context.save(path)
    saved = load_weights(path)
    assert saved.config["format"] == "seggpt-context-7"
    save_weights(path, saved.params, config={**saved.config, "format": "seggpt-context-6"})
    with pytest.raises(CheckpointError, match="a prompt of format seggpt-context-6"):
        Context.load(path)
    save_weights(path, saved.params, config={**saved.config, "format": "something else"})
    with pytest.raises(CheckpointError, match="not a saved context"):
        Context.load(path)


def test_the_same_seed_gives_the_same_bytes_resumed_or_not(segmenter, examples, tuned, tmp_path):
    out = tmp_path / "p.safetensors"
    steps = []

    def stop(progress):
        steps.append(progress)
        if len(steps) == 5:
            raise KeyboardInterrupt

    stopped = tune_prompt(segmenter, examples, config=SMALL, tell=stop, state_for=out)
    assert (stopped.ending, stopped.history[-1][0]) == ("interrupted", 4)
    assert state_path(out).exists()
    resumed = tune_prompt(segmenter, examples, config=SMALL, state_for=out, resume=True)
    assert resumed.history == tuned.history
    for name, result in (("a", tuned), ("b", resumed)):
        result.tuned_context.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_ctrl_c_in_the_first_round_claims_nothing_learned(segmenter, examples):
    def stop(progress):
        raise KeyboardInterrupt

    config = dataclasses.replace(SMALL, lr=0.05)
    result = tune_prompt(segmenter, examples, config=config, tell=stop)
    assert (result.ending, list(result.history)) == ("interrupted", [])
    assert sum(len(trial.pictures) for trial in result.trials) == len(examples)
    for context in (result.tuned_context, *(trial.context for trial in result.trials)):
        assert context.adaptation is not None
        for params in context.adaptation.members:
            assert not np.asarray(params["head"]["kernel"]).any()


def test_the_best_example_is_chosen_without_those_that_score_it(segmenter, examples, monkeypatch):
    pictures = read_pictures(examples, side=48)
    parts = divide(pictures, seed=0)
    rows_of = {}
    show = baselines._show

    def noted(segmenter, pictures, rows, ensemble, seg_type):
        context = show(segmenter, pictures, rows, ensemble, seg_type)
        rows_of[id(context)] = rows
        return context

    monkeypatch.setattr(baselines, "_show", noted)
    plains = cross_plain(segmenter, pictures, parts, seg_type="semantic", seed=0)
    by_looks = [[p for p in plains if p.context.detail == look] for look in ("plain", "large")]
    assert [len(by_looks[0]), len(by_looks[1]) <= 1] == [3, True]
    for plain in by_looks[0]:
        judged = [rows_of[id(trial.context)] for trial in plain.trials]
        assert all(not set(rows) & set(part) for rows, part in zip(judged, parts, strict=True))
        assert plain.counts.marked.sum() == (pictures.slots == 1).sum()


def test_pictures_can_be_held_out_instead(segmenter, examples):
    config = dataclasses.replace(SMALL, hold_out=3)
    result = tune_prompt(segmenter, examples, config=config)
    assert result.judging == "pictures held out"
    assert (len(result.learned_from), len(result.trials[0].pictures)) == (5, 3)
    assert all(score is not None for _, _, score in result.history)
    adaptation = result.tuned_context.adaptation
    assert adaptation is not None
    assert len(adaptation.members) == 1


def test_many_pictures_are_not_left_out_in_turn(segmenter, examples, monkeypatch):
    monkeypatch.setattr("incontext.tuning.tuner.CROSSED", 7)
    result = tune_prompt(segmenter, examples, config=dataclasses.replace(SMALL, steps=2))
    assert (result.judging, len(result.learned_from)) == ("pictures held out", 6)


def test_a_label_in_one_picture_is_said_and_missed(segmenter, examples, example, caplog):
    marked = [*examples[:5], example(30, label=2)]
    result = tune_prompt(segmenter, marked, config=dataclasses.replace(SMALL, steps=1))
    assert "label 2 is in one picture only" in caplog.text
    assert result.tuned_context.labels == (1, 2)
    assert result.tuned.marked[1] > 0  # counted, and found by nothing that was made without it


def test_too_few_pictures_learn_a_cache(segmenter, examples):
    result = tune_prompt(segmenter, examples[:3], config=SMALL)
    assert result.tuned_context.about["learn"] == "cache"
    config = dataclasses.replace(SMALL, learn="adapter")
    with pytest.raises(PromptError, match=r"needs 4 pictures with something marked .* there are 3"):
        tune_prompt(segmenter, examples[:3], config=config)


def test_too_much_to_paint_is_refused(segmenter, examples, monkeypatch):
    monkeypatch.setattr("incontext.tuning.tuner.MOST_PAINTED", 1000)
    config = dataclasses.replace(SMALL, learn="adapter")
    with pytest.raises(PromptError, match=r"needs 0.0 GB for 8 pictures and 1 labels"):
        tune_prompt(segmenter, examples, config=config)


def test_what_a_model_cannot_do_is_refused(mutual, segmenter, examples):
    config = dataclasses.replace(SMALL, learn="adapter")
    with pytest.raises(PromptError, match="--learn adapter needs a model with prefix attention"):
        tune_prompt(mutual, examples, config=config)
    with pytest.raises(PromptError, match="--learn adapter has no --start best"):
        tune_prompt(segmenter, examples, config=dataclasses.replace(config, start="best"))


def test_batches_are_divided_evenly(segmenter):
    assert resolve(TuneConfig(learn="adapter", micro_batch=4), segmenter).micro_batch == 1
    with pytest.raises(PromptError, match="batch_size 6 is not a multiple of micro_batch 4"):
        resolve(TuneConfig(learn="cache", micro_batch=4), segmenter)


def test_the_model_does_not_change(segmenter, tuned):
    assert tuned.tuned_context.model == tiny_segmenter(rel_pos=False).fingerprint


def test_weights_favour_rare_labels(examples):
    pictures = read_pictures(examples, side=48)
    weights = adapter_run.label_weights(pictures)
    assert weights[0] == 1 < weights[1]


def test_what_is_ignored_does_not_matter():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(2), (1, 32, 32, 3)).astype(np.float32)
    image = rng.normal(size=(1, 32, 32, 3)).astype(np.float32)
    slots = rng.integers(0, 2, (1, 32, 32))
    slots[0, :16] = 255
    params = adapter_run.fresh_adapter(2, 3, seed=0)
    weights = jnp.array([1, 2], jnp.float32)

    def loss(chances):
        arrays = map(jnp.asarray, (image, chances, slots))
        return float(adapter_run.adapter_loss(params, *arrays, weights=weights))

    changed = chances.copy()
    changed[0, :16] = changed[0, :16, ..., ::-1]
    assert loss(changed) == pytest.approx(loss(chances), abs=1e-6)
    assert loss(chances[..., ::-1]) != pytest.approx(loss(chances), abs=1e-3)


def test_the_page_shows_what_was_found_without_a_picture(tuned, segmenter, tmp_path):
    write_page(tmp_path / "page.html", tuned, segmenter, command="seggpt tune a b")
    page = (tmp_path / "page.html").read_text()
    assert "Scored on 8 pictures (pictures left out in turn)" in page
    assert page.count("<img") == 4 * 6
    assert not re.search(r"\bNone\b", page)


def test_every_round_is_scored_by_pictures_left_out(tuned):
    assert [step for step, _, _ in tuned.history] == [2, 4, 6]
    assert all(0 <= score <= 100 for _, _, score in tuned.history)
    leaves = jax.tree.leaves(tuned.tuned_context.adaptation.members)
    assert all(leaf.dtype == np.float32 for leaf in leaves)


def test_adapters_never_see_the_part_that_judges_them(segmenter, examples):
    pictures = read_pictures(examples, side=48)
    config = fill(resolve(SMALL, segmenter), segmenter, pictures)
    given = {"config": config, "seg_type": "semantic"}
    crossed = cross_paint(segmenter, pictures, divide(pictures, seed=0), [None] * 4, **given)
    run = make_adapter_run(segmenter, pictures, crossed, None, 0, **given)
    assert len(run.members) == len(crossed.parts)
    cut = []
    run.draw_views(
        lambda row, key: cut.append(row) or (jnp.zeros(1),), np.random.default_rng(0), 1e9
    )
    each = len(cut) // len(run.members)
    for member, part in enumerate(crossed.parts):
        assert set(run.members[member]) == set(range(len(pictures))) - set(part)
        assert set(cut[member * each : (member + 1) * each]) <= set(run.members[member])
    # A part judges the adapter without it, and all are kept.
    learned = tuple(
        jax.tree.map(lambda leaf, n=n: leaf + n, params) for n, params in enumerate(run.start())
    )
    for part, trial in enumerate(run.trials(learned, 0.2)):
        assert added(trial.context) == pytest.approx([part, part], abs=0.01)
        assert trial.context.arrays is crossed.bases[part].arrays
        assert trial.context.adaptation is not None
        assert trial.context.adaptation.share == 0.2
    assert added(run.context(learned)) == pytest.approx([*range(len(learned))], abs=0.01)


def test_the_share_of_the_look_is_what_does_best_on_pictures_left_out(segmenter, examples):
    pictures = read_pictures(examples, side=48)
    config = fill(resolve(SMALL, segmenter), segmenter, pictures)
    given = {"config": config, "seg_type": "semantic"}
    parts = divide(pictures, seed=0)
    crossed = cross_paint(segmenter, pictures, parts, [None] * 4, **given)
    run = make_adapter_run(segmenter, pictures, crossed, None, None, **given)
    rng = np.random.default_rng(0)
    learned = run.start()
    for params in learned:  # adapters that know nothing
        kernel = params["head"]["kernel"]
        params["head"]["kernel"] = jnp.asarray(3 * rng.normal(size=kernel.shape), kernel.dtype)
    share, counts = run.choose_share(learned)
    score = counts.mean(counts.best_threshold())
    found = {s: baselines.score_trials(segmenter, run.trials(learned, s)) for s in SHARES}
    means = {s: c.mean(c.best_threshold()) for s, c in found.items()}
    assert score == pytest.approx(means[share], abs=0.3)  # painted again with 32 bits
    assert score >= max(means.values()) - 0.3
    # Beside a look that is right it is heard as much as may be.
    marked = np.stack([squeeze_labels(s.astype(np.int32), run.size) == 1 for s in pictures.slots])
    right = np.stack([~marked, marked], axis=1).astype(np.float16)
    looks = np.broadcast_to(right[:, None], crossed.painted.shape)
    told = dataclasses.replace(run, crossed=dataclasses.replace(crossed, painted=looks))
    share, counts = told.choose_share(learned)
    assert share == max(SHARES)
    assert counts.mean(counts.best_threshold()) > score


def added(context):
    """Return what was added to the weights of heads, which are 0 at first."""
    return [float(params["head"]["kernel"].mean()) for params in context.adaptation.members]


def test_adapters_learn_alike_however_many_cores_there_are(segmenter, examples, tuned, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    alone = tune_prompt(segmenter, examples, config=SMALL)
    assert alone.history == tuned.history
