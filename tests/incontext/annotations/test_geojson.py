"""GeoJSON of QuPath: collections and lists, holes, classifications."""

import numpy as np
import pytest

from seggpt.errors import InputError

from .scenes import picture, read, square, write_json


def feature(rings, name: object = "leaf", kind="Polygon", **classification):
    told = {"name": name, "color": [200, 0, 0], **classification}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": rings},
        "properties": {"objectType": "annotation", **({"classification": told} if name else {})},
    }


@pytest.fixture
def told(tmp_path):
    picture(tmp_path / "a.png")

    def run(*features, data=None):
        return read(write_json(tmp_path / "a.geojson", data or list(features)))

    return run


def test_holes_are_left_out(told):
    [labels], names = told(feature([square(2, 2, 12, 12), square(4, 4, 6, 8)]))
    assert labels.sum() == 100 - 8
    assert not labels[4:8, 4:6].any()
    assert names == {1: "leaf"}


@pytest.mark.parametrize(
    "wrap", [lambda f: f, lambda f: {"type": "FeatureCollection", "features": [f]}]
)
def test_a_feature_alone_and_a_collection(wrap, told):
    [labels], _ = told(
        data=wrap(feature([[square(0, 0, 3, 3)], [square(5, 5, 8, 8)]], kind="MultiPolygon"))
    )
    assert labels.sum() == 18


def test_things_without_a_class_are_one_class(told):
    labels, names = told(feature([square(0, 0, 3, 3)], name=None))
    assert np.unique(labels).tolist() == [0, 1]
    assert names == {}
    with pytest.raises(InputError, match="feature 1: no classification, and others have one"):
        told(feature([square(0, 0, 3, 3)], name=None), feature([square(0, 0, 3, 3)]))


def test_derived_and_ignored_classes(told):
    [labels], names = told(
        feature([square(0, 0, 3, 3)], names=["Tumor", "Positive"]),
        feature([square(5, 5, 8, 8)], name="Ignore*"),
    )
    assert names == {1: "Tumor: Positive"}
    assert (labels == -1).sum() == 9


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (feature([[[0, 0], [1, 1]]]), "feature 1: polygon needs 3 points or more, and has 2"),
        (feature([]), "feature 1: a polygon is a list of rings, not a list of 0"),
        (feature(5, kind="MultiPolygon"), "feature 1: a MultiPolygon is .*, not 5"),
        (feature([0, 0], kind="Point"), "feature 1: a 'Point' has no area"),
        (
            feature([square(0, 0, 3, 3)], name=5),
            "feature 1: properties.classification.name must be",
        ),
        ({"type": "Feature"}, "feature 1: geometry is missing"),
    ],
)
def test_mistakes_name_file_and_feature(made, words, told):
    with pytest.raises(InputError, match=f"a.geojson: {words}"):
        told(made)


def test_two_pictures_of_the_name_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="which picture is it of"):
        read(write_json(tmp_path / "a.geojson", [feature([square(0, 0, 3, 3)])]))
    assert (
        len(read(write_json(tmp_path / "a.png.geojson", [feature([square(0, 0, 3, 3)])]))[0]) == 1
    )
