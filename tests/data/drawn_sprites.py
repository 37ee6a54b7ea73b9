"""A tiny sprite set in the folder layout, drawn on the spot."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = ((230, 40, 40), (40, 200, 60), (50, 70, 230), (230, 210, 40), (200, 60, 220))


def write_sprites(root: Path, *, names: Sequence[str], cell: int = 16) -> Path:
    """Write the sprite set `root/sprites` and return it.

    There is one sprite for each of `names` (equal ones make a class; "" has no name), a square of
    the next of `COLOURS` inside a transparent border. Two lie on each sheet, side by side. The
    sprite "thin" is a single row.
    """
    folder = root / "sprites"
    folder.mkdir(parents=True)
    entries = []
    for sheet, start in enumerate(range(0, len(names), 2)):
        rgb = np.zeros((cell, 2 * cell, 3), np.uint8)
        alpha = np.zeros((cell, 2 * cell), np.uint8)
        for column, name in enumerate(names[start : start + 2]):
            left, bottom = column * cell, 3 if name == "thin" else cell - 2
            rgb[:, left : left + cell] = COLOURS[(start + column) % len(COLOURS)]
            alpha[2:bottom, left + 2 : left + cell - 2] = 255
            entry = {"sheet": sheet, "x": left, "y": 0}
            entries.append(entry | ({"short_name": name} if name else {}))
        Image.fromarray(rgb).save(folder / f"atlas_{sheet}_rgb.jpg", quality=95, subsampling=0)
        Image.fromarray(alpha).save(folder / f"atlas_{sheet}_alpha.png")
    info = {"name": "sprites", "kind": "sprites", "cell": cell, "sprites": entries}
    (folder / "info.json").write_text(json.dumps(info))
    return folder
