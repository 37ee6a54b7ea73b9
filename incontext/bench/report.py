"""The table of a benchmark."""

from collections.abc import Sequence
from dataclasses import dataclass

HEADER = (
    *("model", "task", "device", "dtype", "first s", "picture s", "cpu s", "pictures/s"),
    *("peak MiB", "GFLOP/s", "of matmul", "time ratio", "memory ratio"),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of one subject; 0 where something is not known."""

    name: str
    task: str  # what was done with a picture
    device: str
    dtype: str
    first_s: float  # the first picture, with compiling
    picture_s: float  # the median of the later ones
    cpu_s: float = 0.0  # what all cores worked for one, whatever else ran: their median
    peak_mib: float
    gflop: float
    matmul_gflops: float


def format_rows(rows: Sequence[Row]) -> str:
    """Lay rows out as a Markdown table; ratios are ours to a peer's.

    The first row of a task is ours; those below it are its peers.
    """
    lines = [HEADER, tuple("---" for _ in HEADER)]
    ours: dict[str, Row] = {}
    for row in rows:
        reference = ours.setdefault(row.task, row)
        lines.append((*_facts(row), *_ratios(reference, row)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEADER))]
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join(f"| {line} |" for line in padded)


def _facts(row: Row) -> tuple[str, ...]:
    achieved = row.gflop / row.picture_s
    return (
        row.name,
        row.task,
        row.device,
        row.dtype,
        f"{row.first_s:.2f}",
        f"{row.picture_s:.3f}",
        f"{row.cpu_s:.3f}" if row.cpu_s else "",
        f"{1 / row.picture_s:.2f}",
        f"{row.peak_mib:.0f}",
        f"{achieved:.0f}" if row.gflop else "",
        f"{achieved / row.matmul_gflops:.0%}" if row.matmul_gflops else "",
    )


def _ratios(ours: Row, row: Row) -> tuple[str, str]:
    """Return our time and memory as shares of a peer's."""
    if row is ours:
        return "", ""
    return f"{ours.picture_s / row.picture_s:.2f}", f"{ours.peak_mib / row.peak_mib:.2f}"
