"""Which views a feature cache has, and how each of them is made.

Views of pictures, of pasted groups and of drawn families, shuffled, so that any first part of
them is a fair sample of all. A view depends on the seed, its place and its group alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from PIL import Image

from data.folder import Folder
from data.views.composites import (
    CompositesConfig,
    Material,
    choose_things,
    gather_material,
    paste_things,
)
from data.views.families import FAMILIES
from data.views.photos import (
    View,
    ViewsConfig,
    jitter_colours,
    picture_names,
    random_photo,
    random_view,
    read_view,
)

ViewKind = Literal["photo", "pasted", "drawn"]

_SHUFFLE, _VIEW, _PASTED, _DRAWN = range(4)  # streams of random numbers


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """How many views of what."""

    seed: int = 0
    split: str = "train"
    views: int = 2  # of each picture
    least: int = 0  # of all pictures together: more of each where there are few
    few: int = 100  # data sets with no more pictures than this have one view more of each
    pasted: int = 450  # groups of pasted things
    drawn: int = 630  # drawn families
    group_size: int = 5  # pictures of such a group or family
    drawn_strength: float = 0.15  # of the jitter of a drawn picture
    look: ViewsConfig = field(default_factory=ViewsConfig)
    composites: CompositesConfig = field(default_factory=CompositesConfig)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: naming the field.
        """
        for name, least in (("views", 1), ("pasted", 0), ("drawn", 0), ("group_size", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} {getattr(self, name)} must be {least} or more")


@dataclass(frozen=True, order=True)
class ViewName:
    """What a view shows: a picture of a data set, or one of a group's."""

    kind: ViewKind
    source: str  # data set, or number of the group
    picture: str


class Plan:
    """All views in the order in which they are written."""

    def __init__(self, folders: Sequence[Folder], config: PlanConfig) -> None:
        """List the views.

        Raises:
            ValueError: if there are no pictures, or nothing to paste where it is asked for.
        """
        self.config = config
        self.folders = {f.name: f for f in folders if f.kind != "sprites"}
        self.photos = [
            (folder, name) for folder in self.folders.values() for name in _names(folder, config)
        ]
        if not self.photos:
            raise ValueError(
                f"no pictures of split {config.split!r} in {[f.name for f in folders]}"
            )
        self.material: Material | None = None
        if config.pasted:
            self.material = gather_material(folders, self.photos, config=config.composites)
        self.names = self._list()

    def make(self, index: int) -> View:
        """Make the view at a place."""
        name = self.names[index]
        rng = self._rng(_VIEW, index)
        if name.kind == "photo":
            whole = read_view(self.folders[name.source], name.picture)
            return random_view(whole, rng, config=self.config.look)
        if name.kind == "pasted":
            image, labels = self._paste(int(name.source), rng)
        else:
            image, labels = self._draw(int(name.source), rng)
        return View(image, labels, np.zeros_like(labels))

    def _list(self) -> list[ViewName]:
        config = self.config
        names = []
        least = -(-config.least // len(self.photos))
        small = {f.name for f in self.folders.values() if len(_names(f, config)) <= config.few}
        for folder, picture in self.photos:
            count = max(config.views + (folder.name in small), least)
            names += [ViewName("photo", folder.name, picture)] * count
        groups: list[tuple[ViewKind, int]] = [("pasted", config.pasted), ("drawn", config.drawn)]
        for kind, count in groups:
            for number in range(count):
                pictures = [str(n) for n in range(config.group_size)]
                names += [ViewName(kind, f"{number:04d}", picture) for picture in pictures]
        return [names[i] for i in self._rng(_SHUFFLE, 0).permutation(len(names))]

    def _paste(self, group: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        assert self.material is not None
        config = self.config.composites
        things = choose_things(self.material, self._rng(_PASTED, group), config=config)
        size = self.config.look.size
        return paste_things(things, self.material, rng, size=size, config=config)

    def _draw(self, family: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        make_family = FAMILIES[family % len(FAMILIES)]
        draw = make_family(
            self._rng(_DRAWN, family),
            photo=lambda rng: random_photo(self.photos, rng),
            size=self.config.look.size,
        )
        image, labels = draw(rng)
        canvas = Image.fromarray(image)
        return np.asarray(jitter_colours(canvas, rng, strength=self.config.drawn_strength)), labels

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, stream, number])


def _names(folder: Folder, config: PlanConfig) -> list[str]:
    return picture_names(folder, split=config.split, cap=config.look.caps.get(folder.name))
