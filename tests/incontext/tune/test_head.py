"""A head learns from pictures that each were painted by others, and must beat those."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from incontext import Context
from incontext.cli import main
from incontext.examples.contents import HeadContext
from incontext.tune import head_run
from incontext.tune.config import TuneConfig
from incontext.tune.head import cut, fill_bank, head_loss, learn_head, make_update, start_head
from incontext.tune.report import format_table, write_page
from incontext.tune.tuner import tune_prompt
from seggpt.errors import CheckpointError, PromptError
from seggpt.in_context.head import split_head
from seggpt.weights import load_weights, save_weights
from tests.tiny_models import in_context_segmenter, save_in_context

QUICK = TuneConfig(steps=2, batch_size=2)
PATCH = 14


@pytest.fixture(scope="module")
def in_context(tmp_path_factory):
    return in_context_segmenter(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def tuned(in_context, two_labels):
    config = dataclasses.replace(QUICK, steps=8)
    return tune_prompt(in_context, two_labels, config=config, names={3: "crop", 4: "weed"})


@pytest.fixture(scope="module")
def learnt(tuned):
    """The context of the head, whether or not it does better."""
    return tuned.tuned_context


@pytest.fixture(scope="module")
def bank():
    """Four pictures whose second channel of features says what their guess does not."""
    rng = np.random.default_rng(0)
    arrays: Any = ([], [], [], [])
    for gh, gw in ((4, 6), (6, 4), (4, 4), (6, 6)):
        marked = rng.random((gh, gw)) < 0.4
        tokens = rng.normal(size=(gh, gw, 8)).astype(np.float32)
        tokens[..., 1] = 3 * marked
        cells = (gh * PATCH // 4, gw * PATCH // 4)
        class_ids = np.kron(marked, np.ones((PATCH, PATCH))).astype(np.uint8)
        guess = np.log(np.full((*cells, 2), 0.5, np.float32))
        pixels = np.zeros((*cells, 48), np.float32)
        for part, array in zip(arrays, (tokens, pixels, guess, class_ids), strict=True):
            part.append(array)
    return fill_bank(*arrays)


def test_a_head_starts_as_no_correction(in_context, learnt, two_labels):
    shown = learnt.arrays
    channels, feats = 3, 3 * in_context.config.encoder.width
    one = start_head(_bank_of(feats, channels), seed=0)
    fresh = jax.tree.map(lambda a: np.asarray(a)[None], one)
    plain, start, after = (
        in_context.segment(two_labels[0].image, dataclasses.replace(learnt, arrays=arrays))
        for arrays in (
            dataclasses.replace(shown, heads=None),
            dataclasses.replace(shown, heads=fresh),
            shown,
        )
    )
    found = plain.probabilities_lowres
    np.testing.assert_allclose(start.probabilities_lowres, found, rtol=1e-4, atol=1e-5)
    assert np.abs(after.probabilities_lowres - found).max() > 1e-3


def _bank_of(feats, channels):
    tokens, pixels, guess = (
        [np.zeros((side, side, channels), np.float32)]
        for side, channels in ((2, feats), (7, 48), (7, channels))
    )
    return fill_bank(tokens, pixels, guess, [np.zeros((28, 28), np.uint8)])


def test_a_context_of_examples_finds_the_same_as_one_that_keeps_their_pictures(
    in_context, learnt, two_labels
):
    kept = dataclasses.replace(learnt, arrays=dataclasses.replace(learnt.arrays, heads=None))
    one, other = (
        in_context.segment(two_labels[0].image, c).probabilities_lowres
        for c in (kept, in_context.context(two_labels))
    )
    # The examples are in another order.
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("turns", [False, True])
def test_crops_stay_together_however_they_are_turned(bank, turns):
    size = (2, 2) if turns else (2, 4)
    one = jax.jit(partial(cut, bank, size=size, patch=PATCH, turns=turns))
    for seed in range(12):
        crop = one(jnp.int32(seed % 4), jax.random.key(seed))
        marked = crop.tokens[..., 1] > 0
        middle = crop.truth[::7, ::7, 1]  # the first cell of every other token
        if (np.asarray(crop.tokens)[..., 1] == 0).all():
            continue  # the channel was dropped, or nothing is marked
        np.testing.assert_array_equal(middle > 0.5, marked[::2, ::2])


def test_ignored_pixels_and_what_fills_a_bank_up_do_not_count(bank):
    crop = jax.vmap(lambda key: cut(bank, jnp.int32(0), key, size=(4, 4), patch=PATCH, turns=False))
    crops = jax.jit(crop)(jax.random.split(jax.random.key(0), 3))
    learned = start_head(bank, seed=0)
    loss = jax.jit(partial(head_loss, weights=jnp.ones(2), graphdef=split_head(8, 2)))
    blank = crops._replace(truth=jnp.zeros_like(crops.truth))
    assert float(loss(learned, blank)) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(crops.truth.sum(axis=-1), 1, rtol=1e-6)


def test_the_loss_falls(bank):
    update = make_update(bank, patch=PATCH, turns=False)
    losses = []
    settings = {"steps": 40, "batch": 3, "lr": 3e-3, "average": 0.9, "seed": 0}
    learn_head(update, bank, range(4), **settings, tell=lambda step, loss: losses.append(loss))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:3])


def test_pictures_are_painted_and_judged_without_their_own_fold(
    in_context, two_labels, monkeypatch
):
    shown, learned = [], []
    engine = type(in_context.engine)
    encode, find, learn = engine.encode_embedding, engine.find_embedded, head_run.learn_head
    own: dict[int, float] = {}  # which picture a cache is of

    def encoded(self, embedding, labels, passes):
        cache = encode(self, embedding, labels, passes)
        own[id(cache)] = float(embedding.image.sum())
        return cache

    def joined(caches):
        shown.append({own[id(cache)] for cache in caches})
        return join(caches)

    def found(self, embedding, cache, passes, **more):
        assert float(embedding.image.sum()) not in shown[-1]
        return find(self, embedding, cache, passes, **more)

    def learnt(update, bank, rows, **settings):
        learned.append(sorted(rows))
        return learn(update, bank, rows, **settings)

    join = head_run.join_caches
    monkeypatch.setattr(engine, "encode_embedding", encoded)
    monkeypatch.setattr(engine, "find_embedded", found)
    monkeypatch.setattr(head_run, "join_caches", joined)
    monkeypatch.setattr(head_run, "learn_head", learnt)
    tune_prompt(in_context, two_labels, config=QUICK)
    assert [len(rows) for rows in learned] == [8, 6, 6, 6, 6]  # all to time it, then folds
    left_out = [row for rows in learned[1:] for row in set(range(8)) - set(rows)]
    assert sorted(left_out) == list(range(8))
    assert [len(others) for others in shown] == [6] * 4


@pytest.mark.parametrize(("total", "folds"), [(2, 2), (7, 7), (8, 4), (18, 4)])
def test_folds_divide_all_pictures(total, folds):
    order = list(range(0, total, 2))
    divided = head_run.divide(total, order)
    assert len(divided) == folds
    assert sorted(row for fold in divided for row in fold) == list(range(total))
    if total > 8:  # those that show something are in every fold
        assert all(set(fold) & set(order) for fold in divided)


def test_a_head_knows_what_it_is_and_comes_back_from_its_file(
    in_context, tuned, learnt, two_labels, tmp_path
):
    learnt.save(tmp_path / "p.safetensors")
    loaded = Context.load(tmp_path / "p.safetensors")
    assert (loaded.labels, loaded.names) == ((3, 4), {3: "crop", 4: "weed"})
    assert (loaded.about["learn"], loaded.about["steps"]) == ("head", 8)
    assert loaded.threshold == tuned.threshold
    one, other = (
        in_context.segment(two_labels[0].image, c).probabilities_lowres for c in (learnt, loaded)
    )
    np.testing.assert_array_equal(one, other)
    saved = load_weights(tmp_path / "p.safetensors")
    del saved.params["head_context"]["maps"]
    save_weights(tmp_path / "p.safetensors", saved.params, config=saved.config)
    with pytest.raises(CheckpointError, match="a damaged context"):
        Context.load(tmp_path / "p.safetensors")


def test_examples_can_be_added_and_the_head_stays(in_context, learnt, example, tmp_path):
    more = in_context.context([example(20, label=3)], like=learnt)
    assert isinstance(more.arrays, HeadContext)
    assert more.arrays.heads is learnt.arrays.heads
    more.save(tmp_path / "p.safetensors")
    image = example(21).image
    found = [
        in_context.segment(image, context).probabilities_lowres
        for context in (learnt, more, Context.load(tmp_path / "p.safetensors"))
    ]
    assert np.abs(found[0] - found[1]).max() > 0
    np.testing.assert_array_equal(found[1], found[2])
    # The other way round all examples are shown, and there is no head.
    other = in_context.context([example(20, label=3)], like=dataclasses.replace(learnt, about={}))
    plain = dataclasses.replace(other, arrays=other.arrays.more).joined(learnt)
    assert plain.arrays.heads is None
    assert len(plain.arrays.images) == len(learnt.arrays.images)


def test_a_head_that_does_worse_is_not_kept(in_context, examples, monkeypatch):
    score = head_run.Found.count
    calls = []

    def worse(self, probabilities):
        counts = score(self, probabilities)
        calls.append(1)
        counts.hits[:] = (0.9 if len(calls) == 1 else 0.8) * counts.marked
        counts.wrong[:] = 0
        return counts

    monkeypatch.setattr(head_run.Found, "count", worse)
    result = tune_prompt(in_context, examples, config=QUICK)
    assert not result.is_tuned
    assert result.verdict.startswith("the plain examples do better: mean IoU 80.0 against 90.0")
    assert isinstance(result.context.arrays, HeadContext)
    assert result.context.arrays.heads is None
    assert result.context.about["learn"] == "nothing"


def test_ctrl_c_keeps_the_plain_examples(in_context, examples):
    def interrupt(progress):
        raise KeyboardInterrupt

    result = tune_prompt(in_context, examples, config=QUICK, tell=interrupt)
    assert (result.ending, result.is_tuned) == ("interrupted", False)
    assert result.verdict.startswith("nothing was learned: the plain examples' context is kept")
    assert isinstance(result.context.arrays, HeadContext)
    assert result.context.arrays.heads is None


def test_time_that_is_up_makes_fewer_steps(in_context, examples):
    config = dataclasses.replace(QUICK, steps=1000, minutes=1e-6)
    result = tune_prompt(in_context, examples, config=config)
    assert (result.ending, result.history[0][0]) == ("minutes", head_run.LEAST_STEPS)


def test_the_same_seed_gives_the_same_bytes(in_context, examples, tmp_path):
    for name in "ab":
        result = tune_prompt(in_context, examples, config=QUICK)
        result.tuned_context.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_report_shows_pictures_as_they_were_left_out(in_context, tuned, tmp_path):
    assert len(format_table(tuned).splitlines()) == 3
    write_page(tmp_path / "page.html", tuned, in_context, command="seggpt tune a b")
    page = (tmp_path / "page.html").read_text()
    assert page.count('<img alt="" src="data:image/png;base64,') == 4 * 6
    assert "pictures left out in turn" in page


def test_what_a_model_cannot_learn_is_refused(in_context, segmenter, examples):
    def tune(model, **changes):
        tune_prompt(model, examples, config=dataclasses.replace(QUICK, **changes))

    with pytest.raises(PromptError, match="--learn head needs an in-context model"):
        tune(segmenter, learn="head")
    for learn in ("pixels", "tokens", "cache"):
        with pytest.raises(PromptError, match=f"--learn {learn} needs a SegGPT"):
            tune(in_context, learn=learn)
    with pytest.raises(PromptError, match="--hold-out are not for --learn head"):
        tune(in_context, hold_out=2)
    with pytest.raises(PromptError, match="1 of 1 pictures show something; learning a head needs"):
        tune_prompt(in_context, examples[:1], config=QUICK)


def test_the_command_line_tunes_and_segments(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("incontext.examples.in_context_engine.SIZE", 112)
    for folder in ("weights", "images", "masks"):
        Path(folder).mkdir()
    model = str(save_in_context(Path("weights")))
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 90, (36, 48, 3)).astype(np.uint8)
        mask = np.zeros((36, 48), np.uint8)
        image[8:24, 10:30] += 150
        mask[8:24, 10:30] = 255
        Image.fromarray(image).save(f"images/{number}.png")
        Image.fromarray(mask).save(f"masks/{number}.png")
    argv = ["tune", "images", "masks", "-o", "p.safetensors", "--steps", "2", "--batch", "2"]
    assert main([*argv, "--learn", "head", "--model", model, "--report", "page.html"]) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("-> p.safetensors")
    assert not Path("p.safetensors.state").exists()
    prompt = ["segment", "images", "--prompt", "p.safetensors", "--model", model]
    assert main([*prompt, "-o", "out"]) == 0
    assert len(list(Path("out").glob("*.png"))) == 3
