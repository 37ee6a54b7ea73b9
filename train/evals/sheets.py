"""Contact sheets of episodes: examples, query, prediction, truth."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, ImageDraw, ImageOps

from data.benchmarks import load_episode
from data.folder import Folder
from train.evals.baselines import Predict
from train.evals.scores import Scores, count_pixels

_TILE_PX, _GAP_PX, _CAPTION_PX, _SHEET_ROWS = 160, 4, 16, 4


def write_sheets(
    directory: Path, predict: Predict, *, folders: Iterable[Folder], scores: Scores
) -> None:
    """Draw each data set's first episodes: example, its mask, query, prediction, truth."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn = {d.name: list(dict.fromkeys(d.episodes))[:_SHEET_ROWS] for d in scores.datasets}
    for folder in folders:
        rows = []
        for episode in drawn.get(folder.name, ()):
            examples, query = load_episode(folder, episode)
            example, prediction = examples[0], predict(examples, query.image)
            [[hit, union]] = count_pixels(prediction, query, thresholds=[scores.threshold])
            guess = prediction >= scores.threshold
            pictures = [example.image, _drawn(example.mask, example.ignore), query.image]
            pictures += [_drawn(guess, query.ignore), _drawn(query.mask, query.ignore)]
            rows.append((f"{episode.class_name}: IoU {100 * hit / max(union, 1):.0f}", pictures))
        if rows:
            lay_out(rows).save(directory / f"{folder.name}.png")


def _drawn(mask: Bool[np.ndarray, "h w"], ignore: Bool[np.ndarray, "h w"]) -> np.ndarray:
    """Draw foreground white, background black and ignored pixels grey."""
    return np.repeat(np.where(ignore, 128, 255 * mask).astype(np.uint8)[..., None], 3, axis=2)


def lay_out(rows: Sequence[tuple[str, Sequence[UInt8[np.ndarray, "h w 3"]]]]) -> Image.Image:
    """Draw rows of pictures, each below its caption, on one sheet."""
    step, height = _TILE_PX + _GAP_PX, _TILE_PX + _GAP_PX + _CAPTION_PX
    sheet = Image.new("RGB", (len(rows[0][1]) * step, len(rows) * height), "#404040")
    pen = ImageDraw.Draw(sheet)
    for y, (caption, pictures) in enumerate(rows):
        # Pillow's built-in font may have no more than ASCII.
        pen.text((2, y * height + 2), caption.encode("ascii", "replace").decode(), fill="white")
        for x, pixels in enumerate(pictures):
            tile = ImageOps.pad(Image.fromarray(pixels), (_TILE_PX, _TILE_PX), color="#404040")
            sheet.paste(tile, (x * step, y * height + _CAPTION_PX))
    return sheet
