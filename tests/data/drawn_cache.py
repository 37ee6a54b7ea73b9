"""A tiny feature cache of drawn pictures, and an encoder whose features can be checked."""

from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8

from data.feature_cache import write_cache
from data.folder import open_folders
from data.views.composites import CompositesConfig
from data.views.photos import ViewsConfig
from data.views.plan import Plan, PlanConfig
from tests.data.drawn import write_drawn_dataset
from tests.data.drawn_sprites import write_sprites

SIZE, GRID, PATCH = 56, 4, 14
CONFIG = PlanConfig(
    pasted=2,
    drawn=4,
    look=ViewsConfig(size=SIZE),
    composites=CompositesConfig(sprite_sets=("sprites",)),
)


def encode(images: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b n 5"]:
    """Tell each token's mean colour in 0..1, and its row and column."""
    cells = images.reshape(len(images), GRID, PATCH, GRID, PATCH, 3).mean(axis=(2, 4)) / 255
    places = np.moveaxis(np.mgrid[:GRID, :GRID], 0, -1)
    places = np.broadcast_to(places, (len(images), GRID, GRID, 2))
    tokens = np.concatenate([cells, places], axis=-1).reshape(len(images), GRID**2, 5)
    return tokens.astype(np.float32)


def drawn_plan(root: Path, config: PlanConfig = CONFIG) -> Plan:
    """Write two data sets and some sprites, and plan views of them."""
    write_drawn_dataset(root, name="things", pictures=9, classes=3)
    write_drawn_dataset(root, name="regions", pictures=8, instances=False, seed=1)
    write_sprites(root, names=["cat", "dog", "cat", "", ""])
    return Plan(open_folders(root), config)


def write_drawn_cache(root: Path, config: PlanConfig = CONFIG) -> Path:
    """Write a cache of such views and return it."""
    write_cache(root / "cache", drawn_plan(root / "data", config), encode=encode, encoder="a")
    return root / "cache"
