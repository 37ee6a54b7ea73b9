"""The facts that `seggpt doctor` reports, and its self-test."""

import importlib.util
import os
import platform
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import incontext
from incontext.cli.environment import prepare_jax, versions
from incontext.cli.work.models import read_model, verify_model
from seggpt.errors import CheckpointError, DeviceError, InputError
from seggpt.pretrained import ENCODER, shipped_weights

EXTRAS = {
    "coco": "pycocotools",
    "demo": "skimage",
    "eval": "cv2",
    "heif": "pillow_heif",
    "hub": "huggingface_hub",
    "tiff": "tifffile",
    "train": "grain",
    "video": "av",
}
SIZE = 128
GOOD_IOU = 0.5  # far below what any of our weights reach on a disc, far above chance


@dataclass
class Report:
    """Facts by section, and what is wrong."""

    sections: dict[str, dict[str, object]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def check_up(device: str | None) -> Report:
    """Gather all facts and run the self-test; what fails becomes a problem of the report."""
    prepare_jax()
    report = Report()
    report.sections["versions"] = dict(versions())
    report.sections["machine"] = _machine()
    report.sections["extras"] = {
        name: "installed" if importlib.util.find_spec(module) else "not installed"
        for name, module in EXTRAS.items()
    }
    for name, check in (
        ("weights", _weights),
        ("devices", _devices),
        ("self-test", partial(_self_test, device)),
    ):
        try:
            report.sections[name] = check(report.problems)
        # What is broken here may raise anything, and then the rest of the report still counts.
        except Exception as error:
            report.sections[name] = {"result": "failed"}
            words = str(error) or type(error).__name__
            if words not in report.problems:
                report.problems.append(f"{name}: {words}")
    return report


def draw_disc(center: tuple[int, int], radius_px: int) -> tuple[Image.Image, Image.Image]:
    """Draw an orange disc on blue, and its mask."""
    x, y = center
    box = (x - radius_px, y - radius_px, x + radius_px, y + radius_px)
    image, mask = Image.new("RGB", (SIZE, SIZE), (30, 60, 140)), Image.new("L", (SIZE, SIZE))
    ImageDraw.Draw(image).ellipse(box, fill=(240, 150, 40))
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return image, mask


def _machine() -> dict[str, object]:
    facts: dict[str, object] = {
        "system": platform.platform(),
        "cores": os.cpu_count() or 0,
    }
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory"] = f"{total / 2**30:.1f} GiB"
    return facts


def _weights(problems: list[str]) -> dict[str, object]:
    facts: dict[str, object] = {}
    files = shipped_weights()
    if not files:
        problems.append("no weights in this copy of the package; install it from its wheel")
    for name, path in {**files, ENCODER.stem: ENCODER}.items():
        try:
            model, digest = read_model(name, path), verify_model(path)
        except CheckpointError as error:
            problems.append(str(error))
            facts[name] = "damaged"
        else:
            facts[name] = f"{model.parameters / 1e6:.1f}M parameters, sha256 {digest[:16]}..."
    return facts


def _devices(problems: list[str]) -> dict[str, object]:
    import jax  # some backends fail while they are imported

    from incontext.device import find_devices

    facts: dict[str, object] = {"compile cache": _compile_cache(jax.config)}
    try:
        devices = find_devices()
    except DeviceError as error:
        problems.append(str(error))
        return facts
    for device in devices:
        limit = (device.memory_stats() or {}).get("bytes_limit")
        memory = f", {limit / 2**30:.1f} GiB" if limit else ""
        facts[f"{device.platform}:{device.id}"] = f"{device.device_kind}{memory}"
    return facts


def _compile_cache(config: Any) -> str:
    from incontext.device import make_cache_folder  # as above

    try:
        folder = config.jax_compilation_cache_dir or make_cache_folder()
    except InputError as error:
        return f"none: {error}"
    if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
        return f"{folder} (not writable: nothing is added)"
    return str(folder)


def _self_test(device: str | None, problems: list[str]) -> dict[str, object]:
    """Find a drawn disc from another one, twice: the second time nothing is compiled."""
    started = time.perf_counter()
    image, mask = draw_disc((40, 44), 24)
    target, truth = draw_disc((80, 76), 30)
    segmenter = incontext.Segmenter.from_pretrained(device=device)
    context = segmenter.context([incontext.Example(image, mask)])
    found = segmenter.segment(target, context).label_map == 1
    first = time.perf_counter() - started
    segmenter.segment(target, context)
    again = time.perf_counter() - started - first
    wanted = np.asarray(truth) > 0
    iou = float((found & wanted).sum() / (found | wanted).sum())
    if iou < GOOD_IOU:
        problems.append(f"self-test: overlap {iou:.2f} with the drawn disc, expected {GOOD_IOU}")
    return {
        "result": "ok" if iou >= GOOD_IOU else "failed",
        "overlap": round(iou, 3),
        "first mask": f"{first:.2f} s with loading and compiling",
        "next mask": f"{again:.3f} s",
    }
