"""The table of docs/encoders.md.

    for size in 448 672 1024; do
        seggpt bench --model dinov3-base --task encode --size $size --json >> measured.jsonl
    done
    python -m incontext.bench.encoder_table measured.jsonl

Parameters and operations are counted for every encoder, and what was not measured stays empty.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from seggpt.config import ENCODERS
from seggpt.config.costs import count_flops, count_parameters

SIZES = (448, 672, 1024)
HEADER = ("encoder", "parameters", "GFLOP", "CPU seconds", "peak MiB")


def main(argv: Sequence[str]) -> int:
    """Print the table of files that `seggpt bench --json` wrote."""
    lines = [line for path in argv for line in Path(path).read_text().splitlines()]
    print(format_table(map(json.loads, lines)))
    return 0


def format_table(events: Iterable[dict[str, Any]]) -> str:
    """Return a Markdown table; cells have a number for each of the sizes."""
    measured = {(event["name"], event["task"]): event for event in events}
    rows = [HEADER, tuple("---" for _ in HEADER)]
    for name, config in ENCODERS.items():
        found = [measured.get((name, f"encode {size} px"), {}) for size in SIZES]
        flops = (count_flops(config, (size, size)) / 1e9 for size in SIZES)
        rows.append(
            (
                f"`{name}`",
                f"{count_parameters(config) / 1e6:.1f} M",
                _join(f"{flop:.0f}" for flop in flops),
                _join(f"{row['cpu_s']:.2g}" if row else "" for row in found),
                _join(f"{row['peak_mib']:.0f}" if row else "" for row in found),
            )
        )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _join(cells: Iterable[str]) -> str:
    """Write the cells of all sizes as one, with a dash for what is not known; empty for none."""
    known = list(cells)
    return " / ".join(cell or "-" for cell in known) if any(known) else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
