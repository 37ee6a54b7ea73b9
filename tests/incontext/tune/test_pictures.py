"""Labelled pictures are read small, one by one, and divided so that every label can be learned."""

import numpy as np
import pytest
from PIL import Image

from incontext import Example
from incontext.tune import pictures as module
from incontext.tune.pictures import hold_out, read_pictures
from seggpt.errors import InputError, PromptError


def test_labels_are_numbered_in_order_and_ignored_pixels_stay(example):
    mask = np.zeros((20, 30), np.uint8)
    mask[:10], mask[10:, :15], mask[18:] = 7, 9, 255
    pictures = read_pictures([Example(example(0).image, mask, ignore=255)], side=20)
    assert pictures.labels == (7, 9)
    assert np.unique(pictures.class_ids[0]).tolist() == [0, 1, 2, 255]
    assert [image.shape for image in pictures.images] == [(20, 20, 3)]


def test_pictures_may_keep_their_aspect(example):
    pictures = read_pictures([example(0)], side=20, fit=lambda shape: (shape[0] // 2, shape[1]))
    assert (pictures.images[0].shape, pictures.class_ids[0].shape) == ((10, 30, 3), (10, 30))


def test_only_some_labels_can_be_asked_for(two_labels):
    pictures = read_pictures(two_labels, side=8, labels=[4])
    assert pictures.labels == (4,)
    assert set(np.unique(pictures.class_ids)) == {0, 1}
    with pytest.raises(PromptError, match=r"label 5 is in no mask; there are \[3, 4\]"):
        read_pictures(two_labels, side=8, labels=[5])


def test_large_pictures_are_squeezed_as_soon_as_they_are_read(example, tmp_path, monkeypatch):
    held, most = [], 0

    def watched(source, **options):
        nonlocal most
        image = np.asarray(Image.open(source))
        held.append(image.shape)
        most = max(most, len(held))
        return image

    shrink = module.check_same_size
    monkeypatch.setattr(module, "load_source", watched)
    monkeypatch.setattr(
        module, "check_same_size", lambda *a, **k: (held.clear(), shrink(*a, **k))[1]
    )
    examples = []
    for number in range(5):
        one = example(number, size=(200, 300))
        Image.fromarray(one.image).save(tmp_path / f"{number}.png")
        examples.append(Example(tmp_path / f"{number}.png", one.mask, kind="labels"))
    pictures = read_pictures(examples, side=12)
    assert most == 1  # each mask is read right after its picture
    assert sum(image.nbytes for image in pictures.images) == 5 * 12 * 12 * 3


def test_a_mask_of_another_size_is_named(example):
    bad = Example(example(0).image, np.ones((21, 30), np.uint8))
    with pytest.raises(InputError, match="mask 30x21 does not match image 30x20"):
        read_pictures([bad], side=8)


def test_masks_without_anything_are_refused_but_one_beside_others_is_not(example):
    empty = example(0, bright=False)
    with pytest.raises(PromptError, match="no mask has any foreground; mark the object"):
        read_pictures([empty], side=8)
    assert len(read_pictures([empty, example(1)], side=8)) == 2


def test_a_quarter_is_held_out_and_the_same_each_time(examples):
    pictures = read_pictures(examples, side=8)
    train, held = hold_out(pictures, None, seed=0)
    assert (len(train), len(held)) == (6, 2)
    assert sorted(train + held) == list(range(8))
    assert hold_out(pictures, None, seed=0) == (train, held)


def test_too_few_pictures_are_all_learned_from(examples):
    for count in (1, 3):
        pictures = read_pictures(examples[:count], side=8)
        assert hold_out(pictures, None, seed=0) == (list(range(count)), [])


def test_all_held_out_is_refused(examples):
    pictures = read_pictures(examples, side=8)
    with pytest.raises(PromptError, match="8 of 8 pictures held out leave none"):
        hold_out(pictures, 8, seed=0)


def test_a_labels_only_picture_is_learned_from_and_said(example, caplog):
    examples = [*(example(seed) for seed in range(7)), example(9, label=2)]
    pictures = read_pictures(examples, side=8)
    for seed in range(5):
        assert 7 in hold_out(pictures, 3, seed=seed)[0]
    assert "label 2 is in one picture only (image): it is learned from there" in caplog.text
