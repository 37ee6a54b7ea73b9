"""The demo's pictures, masks, contact sheets and page."""

import dataclasses
import html
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

import incontext
from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax
from incontext.cli.work.demo_scenes import SCENES, Scene
from incontext.files.atomic import write_whole
from incontext.files.drawing import draw_overlay, make_palette, save_png

PANEL_HEIGHT_PX = 260
COLORS = {1: (0, 220, 120)}  # seen on coins, on red paint and on brown tissue
CAPTIONS = ("example", "its mask", "new picture", "result")
_GAP_PX = 8
_CAPTION_PX = 18

PAGE = """\
<!doctype html>
<html lang="en"><meta charset="utf-8"><title>seggpt demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1em }}
img {{ max-width: 100%; height: auto }}
pre {{ background: #f3f3f3; padding: .6rem; overflow: auto }}
</style>
<h1>seggpt demo</h1>
<p>Each row was made from one example and its mask. The model saw the two pictures on the left, then
the third, and painted the fourth. It was not told the rule by which the mask was drawn.</p>
{scenes}
</html>
"""
SECTION = """\
<h2>{title}</h2>
<img src="{name}/sheet.png" alt="example, its mask, new picture, result">
<p>Mask of the example: {rule}. Score {score:.2f}, {seconds:.2f} s.</p>
<pre>seggpt segment {name}/target.png -e {name}/example.png {name}/example_mask.png -o masks</pre>
"""


def make_gallery(
    index: Path, console: Console, *, model: str | None = None, device: str | None = None
) -> None:
    """Segment every scene; write the page `index`, and its files beside it.

    Raises:
        SegGPTError: if there are no weights, no such device, or a file cannot be written.
    """
    prepare_jax()
    segmenter = incontext.Segmenter.from_pretrained(model, device=device)
    sections = []
    for make_scene in SCENES:
        scene = make_scene()
        folder = index.parent / scene.name
        mask = scene.mask.astype(np.uint8)
        save_png(folder / "example.png", Image.fromarray(scene.example))
        save_png(folder / "example_mask.png", Image.fromarray(mask * 255))
        save_png(folder / "target.png", Image.fromarray(scene.target))
        started = time.perf_counter()
        context = segmenter.context([incontext.Example(scene.example, mask)])
        found = segmenter.segment(scene.target, context)
        result = dataclasses.replace(found, colors=COLORS)
        score = max(result.scores.values(), default=0.0)  # decides the pixels, so it counts too
        seconds = time.perf_counter() - started
        files = result.save(folder, ["mask", "overlay"], name="result")
        save_png(folder / "sheet.png", _sheet(scene, result.label_map))
        files.append(folder / "sheet.png")
        console.event(
            "scene", name=scene.name, seconds=seconds, files=[str(file) for file in files]
        )
        if not console.events:
            console.data(f"{scene.name}: {', '.join(map(str, files))}")
        sections.append(
            SECTION.format(
                name=scene.name,
                title=html.escape(scene.title),
                rule=html.escape(scene.rule),
                score=score,
                seconds=seconds,
            )
        )
    page = PAGE.format(scenes="\n".join(sections))
    write_whole(index, lambda part: part.write_text(page, encoding="utf-8"))


def _sheet(scene: Scene, found: np.ndarray) -> Image.Image:
    """Lay example, mask, target and result side by side."""
    palette = make_palette(COLORS)
    panels = (
        scene.example,
        draw_overlay(scene.example, scene.mask.astype(np.int32), palette=palette),
        scene.target,
        draw_overlay(scene.target, found, palette=palette),
    )
    return _row(panels, CAPTIONS)


def _row(panels: Sequence[UInt8[np.ndarray, "_ _ 3"]], captions: Sequence[str]) -> Image.Image:
    images = []
    for panel in panels:
        width = round(panel.shape[1] * PANEL_HEIGHT_PX / panel.shape[0])
        images.append(
            Image.fromarray(panel).resize((width, PANEL_HEIGHT_PX), Image.Resampling.LANCZOS)
        )
    width = sum(image.width + _GAP_PX for image in images) - _GAP_PX
    row = Image.new("RGB", (width, _CAPTION_PX + PANEL_HEIGHT_PX), "white")
    draw = ImageDraw.Draw(row)
    left = 0
    for image, caption in zip(images, captions, strict=True):
        draw.text((left + 2, 3), caption, fill="black")
        row.paste(image, (left, _CAPTION_PX))
        left += image.width + _GAP_PX
    return row
