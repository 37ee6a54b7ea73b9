"""The report of a tuning run: a text table and an HTML page."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from incontext.examples.segmenter import ExampleSegmenter
from incontext.files.drawing import draw_overlay, make_palette
from incontext.files.mask_rules import IGNORE
from incontext.result import Result
from incontext.tune.outcome import Tuned
from incontext.tune.pictures import show_names
from incontext.tune.scores import Counts
from seggpt.errors import CheckpointError

SHOWN = 6  # pictures on the page

PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>seggpt tune</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1em }}
table {{ border-collapse: collapse }} td, th {{ padding: .2em .8em; text-align: right }}
td:first-child, th:first-child {{ text-align: left }} tr:first-child {{ border-bottom: 1px solid }}
img {{ width: 100%; image-rendering: pixelated }} figure {{ margin: 0 }}
.row {{ display: grid; grid-template-columns: repeat(4, 1fr); gap: .5em; margin: .5em 0 }}
pre {{ background: #f3f3f3; padding: .6rem; overflow: auto }}
</style>
<h1>{title}</h1>
<pre>{command}</pre>
<p>{scored}. IoU in percent, each row at its own best threshold.</p>
{table}
<div class="row"><b>picture</b><b>mask</b><b>{plain}</b><b>tuned</b></div>
{rows}
</html>
"""


def score_rows(tuned: Tuned) -> tuple[list[str], list[list[str]]]:
    """Return the head and the rows of the table: untuned contexts, then the tuned prompt."""
    labels = tuned.learned_from.labels
    names = show_names(labels, tuned.context.names)
    head = ["context", "mean IoU", "threshold", *(names[label] for label in labels)]
    entries = [(plain.name, plain.counts, plain.threshold) for plain in reversed(tuned.plains)]
    entries.append(("tuned", tuned.tuned, tuned.threshold))
    return head, [_row(*entry) for entry in entries]


def format_table(tuned: Tuned) -> str:
    """Lay the scores out as text."""
    head, rows = score_rows(tuned)
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in (head, *rows)
    )


def write_page(path: Path, tuned: Tuned, segmenter: ExampleSegmenter, *, command: str) -> None:
    """Write the scores and some judged pictures as one HTML file.

    Raises:
        CheckpointError: if it cannot be written.
    """
    head, rows = score_rows(tuned)
    cells = [f"<tr>{''.join(f'<th>{html.escape(c)}</th>' for c in head)}</tr>"]
    cells += [f"<tr>{''.join(f'<td>{html.escape(c)}</td>' for c in row)}</tr>" for row in rows]
    best = tuned.plains[0]
    page = PAGE.format(
        title=html.escape(tuned.verdict),
        command=html.escape(command),
        scored=f"Scored on {len(tuned.judged_by)} pictures ({tuned.judging})",
        table=f"<table>{''.join(cells)}</table>",
        plain=html.escape(best.name),
        rows="\n".join(_draw_rows(tuned, segmenter)),
    )
    try:
        # Names that are not UTF-8 are escaped.
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error


def _row(name: str, counts: Counts, threshold: float) -> list[str]:
    by_label = ["-" if value is None else f"{value:.1f}" for value in counts.iou(threshold)]
    return [name, f"{counts.mean(threshold):.1f}", f"{threshold:.2f}", *by_label]


def _draw_rows(tuned: Tuned, segmenter: ExampleSegmenter) -> list[str]:
    """Draw some of the pictures that judge, and what both contexts find in them."""
    shown = tuned.judged_by.take(range(min(SHOWN, len(tuned.judged_by))))
    values = np.zeros(256, np.int32)
    values[1 : len(shown.labels) + 1] = shown.labels
    rows = []
    for number, (image, class_ids) in enumerate(zip(shown.images, shown.class_ids, strict=True)):
        maps = [np.where(class_ids == IGNORE, 0, values[class_ids])]
        maps += [result.label_map for result in _results(tuned, segmenter, number)]
        rows.append(_draw_row(image, maps, title=shown.files[number]))
    return rows


def _results(tuned: Tuned, segmenter: ExampleSegmenter, number: int) -> list[Result]:
    """Return what both contexts find in a judged picture that they do not know."""
    image, best = tuned.judged_by.images[number], tuned.plains[0]
    thresholds = (best.threshold, tuned.threshold)
    if not tuned.left_out:
        contexts = zip((best.context, tuned.tuned_context), thresholds, strict=True)
        return [
            result
            for context, threshold in contexts
            for result in segmenter.segment_many([image], context, threshold=threshold)
        ]
    height, width = image.shape[:2]
    labels = tuned.judged_by.labels
    return [
        Result(probabilities_lowres=c, labels=labels, size=(height, width), threshold=t)
        for c, t in zip(tuned.left_out[number], thresholds, strict=True)
    ]


def _draw_row(
    image: UInt8[np.ndarray, "h w 3"], maps: Sequence[Int32[np.ndarray, "h w"]], *, title: str
) -> str:
    """Draw one picture and label maps on it."""
    palette = make_palette(None)
    panels = [image, *(draw_overlay(image, m % 256, palette=palette) for m in maps)]
    figures = "".join(f'<img alt="" src="{_data_url(panel)}">' for panel in panels)
    return f'<div class="row" title="{html.escape(title)}">{figures}</div>'


def _data_url(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
