"""What a saved context says of itself: checked when it is read, as it may come from anywhere."""

from collections.abc import Mapping
from os import PathLike
from typing import Any, get_args

from incontext.options import Detail, Ensemble, SegType
from seggpt.errors import CheckpointError

FORMAT = "seggpt-context-1"


def check_format(path: str | PathLike[str], about: Mapping[str, Any]) -> None:
    """Make sure that a file's config is that of a context.

    Raises:
        CheckpointError: It is something else, or a context of another version.
    """
    kind = about.get("format")
    if kind == FORMAT:
        return
    if str(kind).startswith(FORMAT.rstrip("1")):
        raise CheckpointError(
            f"{path}: a context of format {str(kind)[:40]!r}, and this version reads {FORMAT}; "
            "make or tune it again"
        )
    raise CheckpointError(
        f"{path}: not a saved context; make one with Context.save, or pass example pairs"
    )


def read_fields(path: str | PathLike[str], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a context that its file's config has, which is all but the arrays.

    Raises:
        CheckpointError: naming the first field that is missing or wrong.
    """
    fields = {
        "labels": about.get("labels"),
        "passes": about.get("passes"),
        "model": about.get("model"),
        "ensemble": about.get("ensemble"),
        "seg_type": about.get("seg_type"),
        "names": about.get("names"),
        "threshold": about.get("threshold"),
        "detail": about.get("detail", "plain"),
        "about": about.get("about", {}),
    }
    labels, names = fields["labels"], fields["names"]
    is_right = {
        "labels": _are_labels(labels),
        "passes": _are_passes(fields["passes"], labels),
        "model": isinstance(fields["model"], str),
        "ensemble": fields["ensemble"] in get_args(Ensemble),
        "seg_type": fields["seg_type"] in get_args(SegType),
        "names": isinstance(names, dict) and all(map(_is_named, names.items())),
        "threshold": _is_threshold(fields["threshold"]),
        "detail": fields["detail"] in get_args(Detail),
        "about": isinstance(fields["about"], dict),
    }
    if wrong := [name for name, right in is_right.items() if not right]:
        said = repr(fields[wrong[0]])[:40]
        raise CheckpointError(
            f"{path}: a context of unknown {wrong[0]} {said}; make it again, or upgrade seggpt"
        )
    threshold = fields["threshold"]
    return {
        **fields,
        "threshold": None if threshold is None else float(threshold),
        "labels": tuple(labels),
        "passes": tuple(map(tuple, fields["passes"])),
        "names": {int(label): name for label, name in names.items()},
    }


def _are_labels(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_label, value))


def _is_label(value: object) -> bool:
    return type(value) is int and 0 < value < 1 << 31


def _are_passes(value: object, labels: Any) -> bool:
    if not isinstance(value, list) or not all(map(_are_labels, value)):
        return False
    return _are_labels(labels) and {label for part in value for label in part} == set(labels)


def _is_named(item: tuple[str, object]) -> bool:
    label, name = item
    return label.isascii() and label.isdigit() and len(label) < 11 and isinstance(name, str)


def _is_threshold(value: Any) -> bool:
    return value is None or (type(value) in (int, float) and 0 <= value <= 1)
