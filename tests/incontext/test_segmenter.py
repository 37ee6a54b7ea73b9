"""The segmenter on tiny random weights: what must hold whatever the weights are."""

import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from incontext import Context, Example, Segmenter
from incontext.examples.context import check_examples, check_names
from incontext.examples.engine import SegGPTEngine
from incontext.examples.segmenter import check_arguments
from seggpt.errors import CheckpointError, DeviceError, InputError, PromptError
from seggpt.weights import save_weights
from tests.tiny_models import fresh_weights, in_context_segmenter, tiny_seggpt, tiny_segmenter


@pytest.fixture(scope="module", params=["prefix", "mutual", "in-context"])
def segmenter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Segmenter:
    if request.param == "in-context":
        return in_context_segmenter(tmp_path_factory.mktemp("weights"))
    return tiny_segmenter(request.param)


def picture(seed: int, h: int = 20, w: int = 30) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


def mask(classes: int = 1, h: int = 20, w: int = 30) -> np.ndarray:
    return np.broadcast_to(np.arange(w) * (classes + 1) // w, (h, w)).astype(np.uint8)


def examples(count: int = 1, classes: int = 1) -> list[Example]:
    return [Example(picture(seed), mask(classes), kind="labels") for seed in range(count)]


def test_results_have_the_size_of_the_picture_and_the_labels_of_the_masks(
    segmenter: Segmenter,
) -> None:
    for size in [(20, 30), (64, 48), (5, 7)]:
        result = segmenter.segment(picture(9, *size), examples())
        assert result.label_map.shape == size
        assert set(np.unique(result.label_map)) <= {0, 1}
        assert 0 <= result.scores[1] <= 1
        np.testing.assert_allclose(result.probabilities().sum(axis=0), 1, atol=1e-4)


def test_labels_keep_their_values_over_examples_that_show_different_ones(
    segmenter: Segmenter,
) -> None:
    pairs = [
        Example(picture(0), mask() * 7, kind="labels"),
        Example(picture(1), mask() * 9, kind="labels"),
    ]
    result = segmenter.segment(picture(2), pairs)
    assert result.labels == (7, 9)
    assert set(np.unique(result.label_map)) <= {0, 7, 9}


def test_many_labels_are_painted_in_several_passes(segmenter: Segmenter) -> None:
    context = segmenter.context(examples(classes=7))
    assert context.passes == ((1, 2, 3, 4), (5, 6, 7))
    result = segmenter.segment(picture(2), context)
    assert result.probabilities().shape == (8, 20, 30)
    # A label's odds against the background do not depend on the passes beside its own.
    first_alone = segmenter.segment(
        picture(2),
        [Example(picture(0), np.where(mask(7) <= 4, mask(7), 0), kind="labels")],
    )
    both, alone = result.probabilities_lowres, first_alone.probabilities_lowres
    np.testing.assert_allclose(both[1:5] / both[0], alone[1:] / alone[0], rtol=1e-3)


def test_batches_equal_single_pictures_and_stay_in_order(segmenter: Segmenter) -> None:
    context = segmenter.context(examples(2))
    pictures = [picture(seed, 30 + seed, 60) for seed in range(5)]
    singles = [segmenter.segment(p, context) for p in pictures]
    for batch_size in (2, 5, 8):
        batch = list(segmenter.segment_many(pictures, context, batch_size=batch_size))
        assert [r.size for r in batch] == [(30 + seed, 60) for seed in range(5)]
        for one, other in zip(singles, batch, strict=True):
            np.testing.assert_allclose(
                one.probabilities_lowres, other.probabilities_lowres, atol=1e-5
            )


def test_segment_many_is_lazy(segmenter: Segmenter) -> None:
    taken = []

    def stream():
        for seed in range(100):
            taken.append(seed)
            yield picture(seed)

    results = segmenter.segment_many(stream(), segmenter.context(examples()), batch_size=2)
    next(results)
    assert len(taken) == 2


def params_of(segmenter: Segmenter) -> Any:
    assert isinstance(segmenter.engine, SegGPTEngine)
    return segmenter.engine.params


def test_a_saved_context_gives_identical_results(segmenter: Segmenter, tmp_path: Path) -> None:
    context = segmenter.context(examples(2, classes=5), names={1: "leaf"})
    context.save(tmp_path / "leaf.safetensors")
    loaded = Context.load(tmp_path / "leaf.safetensors")
    assert loaded.names == {1: "leaf"}
    assert (loaded.labels, loaded.passes) == (context.labels, context.passes)
    one, other = (segmenter.segment(picture(3), c) for c in (context, loaded))
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)


def test_the_order_of_examples_does_not_matter(segmenter: Segmenter) -> None:
    pairs = examples(3)
    one = segmenter.segment(picture(5), pairs).probabilities_lowres
    other = segmenter.segment(picture(5), pairs[::-1]).probabilities_lowres
    # The published decoder's seam row sees the first example; a prefix model has no seam.
    is_mutual = getattr(segmenter.config, "attention", "prefix") == "mutual"
    rows = slice(1, None) if is_mutual else slice(None)
    np.testing.assert_allclose(one[:, rows], other[:, rows], atol=1e-4)


@pytest.mark.parametrize("attention", ["prefix", "mutual"])
def test_the_type_is_told_to_the_model_and_kept_with_the_context(attention, tmp_path) -> None:
    segmenter = tiny_segmenter(attention)
    probabilities = {}
    for seg_type in ("semantic", "instance"):
        context = segmenter.context(examples(), seg_type=seg_type)
        context.save(tmp_path / "c.safetensors")
        assert Context.load(tmp_path / "c.safetensors").seg_type == seg_type
        probabilities[seg_type] = segmenter.segment(picture(5), context).probabilities()
    assert np.abs(probabilities["semantic"] - probabilities["instance"]).max() > 1e-5


def test_the_spatial_ensemble_of_one_example_is_that_example(segmenter: Segmenter) -> None:
    plain = segmenter.segment(picture(5), segmenter.context(examples()))
    tiled = segmenter.segment(picture(5), segmenter.context(examples(), ensemble="spatial"))
    np.testing.assert_allclose(
        plain.probabilities_lowres, tiled.probabilities_lowres, atol=5e-3
    )  # the tile's pixels are rounded to bytes


def test_threads_share_a_segmenter(segmenter: Segmenter) -> None:
    contexts = [segmenter.context(examples(n)) for n in (1, 2)]
    work = [(picture(seed), contexts[seed % 2]) for seed in range(16)]
    serial = [segmenter.segment(*job).probabilities_lowres for job in work]
    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(lambda job: segmenter.segment(*job).probabilities_lowres, work))
    for one, other in zip(serial, threaded, strict=True):
        np.testing.assert_array_equal(one, other)


def test_another_models_context_is_refused() -> None:
    context = tiny_segmenter("prefix", seed=1).context(examples())
    with pytest.raises(PromptError, match="made by model"):
        tiny_segmenter("prefix", seed=2).segment(picture(0), context)


def test_bad_examples_are_refused(segmenter: Segmenter, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="no examples"):
        segmenter.context([])
    with pytest.raises(InputError, match="does not match"):
        segmenter.context([Example(picture(0), mask(h=21))])
    with pytest.raises(InputError, match="no foreground"):
        segmenter.context([Example(picture(0), np.zeros((20, 30), np.uint8))])
    with pytest.raises(PromptError, match="different kinds"):
        segmenter.context([*examples(), Example(picture(1), mask())])
    weights = {"a": np.ones(2, np.float32)}
    save_weights(tmp_path / "w.safetensors", weights, config={"format": "x"})
    with pytest.raises(CheckpointError, match="not a saved context"):
        Context.load(tmp_path / "w.safetensors")


def test_weights_load_from_a_file_and_know_their_threshold(tmp_path: Path) -> None:
    segmenter = tiny_segmenter("prefix")
    params = jax.tree.map(np.asarray, params_of(segmenter))
    path = tmp_path / "own.safetensors"
    save_weights(path, params, config=segmenter.config.to_dict(), metadata={"threshold": "0.3"})
    loaded = Segmenter.from_pretrained(path)
    assert loaded.fingerprint == segmenter.fingerprint
    assert loaded.threshold == 0.3
    one, other = (s.segment(picture(1), examples()) for s in (segmenter, loaded))
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)
    assert other.threshold == 0.3


def test_missing_weights_and_devices_are_named() -> None:
    with pytest.raises(CheckpointError, match="nowhere"):
        Segmenter.from_pretrained("nowhere.safetensors")
    with pytest.raises(DeviceError, match="available: cpu"):
        Segmenter(tiny_seggpt(), {}, device="cuda:7")


def test_tiles_give_a_finer_grid_of_the_same_classes(segmenter) -> None:
    context = segmenter.context(examples(2, classes=2))
    plain = segmenter.segment(picture(9, 64, 96), context)
    closer = segmenter.segment(picture(9, 64, 96), context, detail="tiles")
    assert closer.label_map.shape == plain.label_map.shape
    assert closer.labels == plain.labels
    np.testing.assert_allclose(closer.probabilities_lowres.sum(axis=0), 1, atol=1e-5)
    assert closer.probabilities_lowres.shape[1] >= plain.probabilities_lowres.shape[1]


def test_a_context_says_how_closely_to_look_unless_asked_otherwise() -> None:
    segmenter = tiny_segmenter(rel_pos=False)
    context = segmenter.context(examples(2))
    large = replace(context, detail="large")
    image = picture(9, 64, 96)
    one, other = segmenter.segment(image, large), segmenter.segment(image, context, detail="large")
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)
    assert one.probabilities_lowres.shape[1] == 2 * segmenter.engine.size
    np.testing.assert_allclose(one.probabilities_lowres.sum(axis=0), 1, atol=1e-5)
    one, other = segmenter.segment(image, large, detail="plain"), segmenter.segment(image, context)
    np.testing.assert_array_equal(one.probabilities_lowres, other.probabilities_lowres)


def test_a_model_that_sees_one_size_refuses_a_larger_one() -> None:
    mutual = tiny_segmenter("mutual")
    with pytest.raises(PromptError, match=r"sees pictures at \d+ pixels alone"):
        mutual.segment(picture(9), examples(1), detail="large")


def test_an_automatic_batch_gives_what_single_pictures_give(segmenter) -> None:
    context = segmenter.context(examples(2))
    pictures = [picture(seed, 20 + seed, 30) for seed in range(5)]
    together = list(segmenter.segment_many(pictures, context, batch_size="auto"))
    assert len(together) == 5
    for result, alone in zip(together, pictures, strict=True):
        want = segmenter.segment(alone, context).probabilities_lowres
        np.testing.assert_allclose(result.probabilities_lowres, want, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 48}, r"is \(.*\), not \(.*\) as the architecture"),
        ({"depth": 3, "taps": [0, 2]}, "arrays are missing or too many"),
        ({"heads": 0}, "heads 0 is not above 0"),
    ],
)
def test_weights_that_are_not_their_architecture_s_are_refused(tmp_path, change, message) -> None:
    segmenter = tiny_segmenter("prefix")
    path = tmp_path / "own.safetensors"
    params = jax.tree.map(np.asarray, params_of(segmenter))
    save_weights(path, params, config=segmenter.config.to_dict() | change)
    with pytest.raises(CheckpointError, match=message) as caught:
        Segmenter.from_pretrained(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_arguments_that_make_no_sense_are_named(segmenter: Segmenter) -> None:
    context = segmenter.context(examples())
    wrong: list[tuple[str, Any]] = [
        ("batch_size 0", lambda: list(segmenter.segment_many([], context, batch_size=0))),
        ("'a.png'.* is one", lambda: list(segmenter.segment_many("a.png", context))),
        ("threshold nan", lambda: segmenter.segment(picture(3), context, threshold=np.nan)),
        ("about=1", lambda: segmenter.segment(picture(3), context, about=1)),
        ("not at 0", lambda: tiny_segmenter_of_size(0)),
    ]
    for words, act in wrong:
        with pytest.raises(PromptError, match=words):
            act()


def tiny_segmenter_of_size(size: int) -> Segmenter:
    config = tiny_seggpt()
    return Segmenter(config, fresh_weights(config), size=size)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a.png"], 1, "x", None), "threshold 'x'"),
        ((np.zeros((4, 4, 3), np.uint8), 1, None, None), "is one; use segment"),
        ((5, 1, None, None), "5 is one; use segment"),
        (([], 1, None, "huge"), "detail 'huge' is unknown"),
    ],
)
def test_arguments_of_other_types_are_named(arguments: tuple[object, ...], words: str) -> None:
    with pytest.raises(PromptError, match=words):
        check_arguments(*arguments)


def test_names_are_of_labels() -> None:
    assert check_names({"1": "leaf", 2: "stem"}) == {1: "leaf", 2: "stem"}
    assert check_names(None) == {}
    for wrong in (["leaf"], {"leaf": 1}, 5):
        with pytest.raises(PromptError, match="names"):
            check_names(wrong)


def test_a_path_is_no_context() -> None:
    with pytest.raises(PromptError, match=r"read by Context\.load"):
        inspect.unwrap(check_examples)("prompt.safetensors")


def test_arrays_of_jax_are_pictures(segmenter: Segmenter) -> None:
    context = segmenter.context(examples())
    one = segmenter.segment(jax.numpy.asarray(picture(3)), context)
    np.testing.assert_array_equal(one.label_map, segmenter.segment(picture(3), context).label_map)


def test_an_example_of_nothing_is_taken_beside_others(segmenter: Segmenter) -> None:
    nothing = Example(picture(1), np.zeros((20, 30), np.uint8), kind="labels")
    assert segmenter.context([*examples(), nothing]).labels == (1,)


@pytest.mark.parametrize("values", [(7, 0), (0, 9), (7, 9)])
def test_further_examples_have_the_labels_of_the_prompt(segmenter: Segmenter, values) -> None:
    prompt = segmenter.context([Example(picture(0), labelled(7, 9))])
    assert segmenter.context([Example(picture(1), labelled(*values))], like=prompt).labels == (7, 9)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((255, 0), "which one is it"),
        ((1, 1), "label 1 is not one of"),
        ((7, 8), "label 8 is not one of"),
    ],
)
def test_further_examples_of_other_labels_are_refused(segmenter, values, words) -> None:
    prompt = segmenter.context([Example(picture(0), labelled(7, 9))])
    with pytest.raises(PromptError, match=words):
        segmenter.context([Example(picture(1), labelled(*values))], like=prompt)


def labelled(first: int, second: int) -> np.ndarray:
    return np.array([0, first, second], np.uint8)[mask(2)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([("a.png", "mask.png")], r"an example is a tuple; write Example\(image, mask\)"),
        ([picture(0)], r"an example is a ndarray; write Example\(image, mask\)"),
        (Example("a.png", "mask.png"), r"write \[Example\(...\)\]"),
    ],
)
def test_what_is_no_list_of_examples_is_named(given: object, words: str) -> None:
    with pytest.raises(PromptError, match=words):
        inspect.unwrap(check_examples)(given)
