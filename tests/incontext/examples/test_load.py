"""`load_examples`: examples with the names of their classes, for contexts and for tuning."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from incontext import load_examples
from incontext.examples.context import names_of
from seggpt.errors import PromptError
from tests.incontext.annotations.scenes import LABELS, NAMES, exported, mask, picture
from tests.tiny_models import tiny_segmenter


@pytest.fixture(scope="module")
def segmenter():
    return tiny_segmenter()


def test_names_of_classes_reach_the_results_and_others_take_their_place(segmenter, tmp_path):
    examples = load_examples(exported(tmp_path, "coco"))
    context = segmenter.context(examples)
    assert context.labels == (1, 2)
    assert context.names == NAMES
    assert segmenter.segment(tmp_path / "a.png", context).names == NAMES
    assert segmenter.context(examples, names={1: "Blatt"}).names == {1: "Blatt"}


def test_options_of_pictures_and_masks_are_kept(tmp_path):
    [example] = load_examples(exported(tmp_path, "coco"), kind="binary", alpha="ignore")
    assert (example.kind, example.alpha) == ("binary", "ignore")
    assert example.names == {}
    np.testing.assert_array_equal(np.asarray(example.mask), LABELS)


def test_folders_of_masks_are_pairs(tmp_path):
    picture(tmp_path / "images/a.png")
    mask(tmp_path / "masks/a.png")
    [example] = load_examples(tmp_path)
    assert (example.image, example.mask) == (tmp_path / "images/a.png", tmp_path / "masks/a.png")


def test_one_label_has_one_name(segmenter, tmp_path):
    [one] = load_examples(exported(tmp_path, "coco"))
    other = replace(one, names={1: "bug"})
    with pytest.raises(PromptError, match="label 1 is 'leaf' in one example and 'bug' in another"):
        names_of([one, other])
    with pytest.raises(
        PromptError, match="label 1 is 'bug' in the examples and 'leaf' in the prompt"
    ):
        segmenter.context([other], like=segmenter.context([one]))


def test_pairs_of_files_may_stand_beside_annotations(segmenter, tmp_path):
    examples = load_examples(exported(tmp_path / "x", "labelme"))
    Image.fromarray((LABELS == 2).astype(np.uint8) * 2).save(tmp_path / "m.png")
    pair = replace(examples[0], mask=tmp_path / "m.png", image=picture(tmp_path / "b.png"))
    assert segmenter.context([*examples, pair]).labels == (1, 2)
