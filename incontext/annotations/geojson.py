"""GeoJSON as QuPath writes it: polygons with holes, in pixels, with a classification."""

from pathlib import Path

from incontext.annotations import pictures
from incontext.annotations.parse import Node, Points, show
from incontext.annotations.shapes import Annotated, Class, Polygons, Region

IGNORED = "Ignore*"
"""QuPath's class of what does not count."""


def read_geojson(data: Node, file: Path, *, images: Path | None) -> Annotated:
    """Read a file of GeoJSON: a collection, a list of features, or one.

    Raises:
        InputError: Something in it makes no sense, or the picture is missing.
    """
    regions = []
    for feature in _features(data):
        named = _name(feature)
        of = None if named == IGNORED else Class(name=named) if named else Class(number=1)
        regions.append(Region(_polygons(feature), of, feature.place))
    bare = [region for region in regions if region.of == Class(number=1)]
    if bare and len(bare) < len(regions):
        raise Node(None, bare[0].place).error(
            "no classification, and others have one; classify all"
        )
    picture = pictures.find_stem(file.stem, file, images=images)
    if picture is None:
        raise pictures.missing(data.place, show(f"{file.stem}.*"))
    return Annotated(picture, data.place, tuple(regions))


def is_geojson(data: Node) -> bool:
    """Whether there are features in a file."""
    if isinstance(data.value, list):
        return bool(data.value) and all(
            isinstance(part, dict) and part.get("type") == "Feature" for part in data.value
        )
    return data.has("type") and data.value["type"] in ("Feature", "FeatureCollection")


def _features(data: Node) -> list[Node]:
    if isinstance(data.value, list):
        return list(data.items("feature"))
    if data.value["type"] == "Feature":
        return [data]
    return list(data["features"].items("feature"))


def _name(feature: Node) -> str:
    """Return the name of a feature's class; nothing if it has none."""
    if not feature.has("properties") or not feature["properties"].has("classification"):
        return ""
    kind = feature["properties"]["classification"]
    if isinstance(kind.value, str):
        return kind.text().strip()
    if not kind.has("names"):
        return kind["name"].text().strip()
    names = kind["names"]
    if not isinstance(names.value, list) or not names.value:
        raise names.error("classification.names must be a list of texts")
    return ": ".join(Node(name, names.place, names.key).text().strip() for name in names.value)


def _polygons(feature: Node) -> Polygons:
    geometry = feature["geometry"]
    kind, coordinates = geometry["type"].text(), geometry["coordinates"]
    if kind == "Polygon":
        return Polygons((_rings(coordinates),))
    if kind == "MultiPolygon":
        if not isinstance(coordinates.value, list):
            raise coordinates.error(
                f"a MultiPolygon is a list of polygons, not {show(coordinates.value)}"
            )
        parts = (Node(part, coordinates.place, coordinates.key) for part in coordinates.value)
        return Polygons(tuple(_rings(part) for part in parts))
    raise feature.error(f"a {show(kind)} has no area; outline it as a polygon, or delete it")


def _rings(polygon: Node) -> tuple[Points, ...]:
    if not isinstance(polygon.value, list) or not polygon.value:
        raise polygon.error(f"a polygon is a list of rings, not {show(polygon.value)}")
    return tuple(Node(ring, polygon.place, "ring").points() for ring in polygon.value)
