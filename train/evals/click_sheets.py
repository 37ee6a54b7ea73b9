"""Contact sheets of clicked objects: truth, and the mask after all clicks."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from data.clicks import Predictor, Target, Turn, load_truth, play
from data.folder import Folder
from train.evals.click_scores import COUNTED, MODEL, SetScores
from train.evals.sheets import lay_out

_SHEET_ROWS = 4
_COLOURS = {0: "#ff3030", 1: "#30ff30"}  # of clicks


def write_sheets(
    directory: Path,
    predictors: Mapping[str, Predictor],
    *,
    folders: Iterable[Folder],
    scores: Sequence[SetScores],
) -> None:
    """Draw each data set's first objects: picture, truth, the model's clicks, the best baseline's.

    Clicks are green on what is foreground and red on background, over what came of all of them.
    """
    directory.mkdir(parents=True, exist_ok=True)
    by_name = {folder.name: folder for folder in folders}
    for of_set in scores:
        means = {name: np.mean([*row.values()]) for name, row in of_set.means.items()}
        baselines = [name for name in means if name != MODEL]
        shown = [name for name in means if name == MODEL]
        shown += [max(baselines, key=lambda name: means[name])] if baselines else []
        folder, rows = by_name[of_set.name], []
        for target in [one for one in of_set.asked if isinstance(one, Target)][:_SHEET_ROWS]:
            image = folder.image(target.picture)
            truth, ignore = load_truth(folder, target)
            turns = {
                name: play(predictors[name](image), truth, ignore=ignore, clicks=COUNTED[-1])
                for name in shown
            }
            caption = f"{target.class_name}, {COUNTED} clicks: " + "; ".join(
                f"{name} " + " ".join(f"{100 * of[count - 1].iou:.0f}" for count in COUNTED)
                for name, of in turns.items()
            )
            pictures = [image, np.repeat(255 * truth.astype(np.uint8)[..., None], 3, axis=2)]
            rows.append((caption, pictures + [_drawn(image, of[-1]) for of in turns.values()]))
        lay_out(rows).save(directory / f"{of_set.name}.png")


def _drawn(image: UInt8[np.ndarray, "h w 3"], turn: Turn) -> UInt8[np.ndarray, "h w 3"]:
    """Darken what is outside the mask, and draw the clicks."""
    picture = Image.fromarray(np.where(turn.mask[..., None], image, image // 4))
    pen, radius = ImageDraw.Draw(picture), max(2, max(picture.size) // 60)
    for x, y, label in turn.prompt.clicks:
        spot = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(spot, fill=_COLOURS[label], outline="white")
    return np.asarray(picture)
