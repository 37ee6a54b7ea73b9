"""A run as one HTML file: curves, held-out scores, sheets, skipped steps, the recipe.

    python -m train.report runs/small      writes runs/small/report.html

The file needs nothing beside itself: curves are inline SVG, sheets are inside.
"""

import argparse
import base64
import html
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seggpt.errors import one_line
from train.report.curves import draw_curve
from train.running.watch import LOG, Row, read_rows

REPORT = "report.html"
MOST_SHEETS = 6  # the first, the last, and some between
TIMING = "seconds_per_step"
FIRST = ("loss", "grad_norm", "lr", TIMING)
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem;
  color: #1c1c1c; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left; }
td.n { font-variant-numeric: tabular-nums; text-align: right; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(28rem, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-size: .85rem; color: #555; }
svg { width: 100%; height: auto; } img { max-width: 100%; border: 1px solid #ddd; }
pre { background: #f6f6f6; padding: 1rem; overflow: auto; font-size: .8rem; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #e6e6e6; }
  pre { background: #222; } figcaption { color: #aaa; } }
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="DIR", help="the --out of a run, at work or done")
    parser.add_argument("--out", metavar="FILE", help=f"default: DIR/{REPORT}")
    args = parser.parse_args(argv)
    run = Path(args.run)
    out = Path(args.out) if args.out else run / REPORT
    try:
        out.write_text(write_report(run), encoding="utf-8")
    except (ValueError, OSError) as error:
        print(f"report: error: {one_line(str(error))}", file=sys.stderr)
        return 2
    print(out)
    return 0


def write_report(run: Path) -> str:
    """Return the report of a run as HTML.

    Raises:
        ValueError: if the folder holds no run.
    """
    if not (run / LOG).is_file():
        raise ValueError(f"{run}: no run here ({LOG}); pass the --out of python -m train")
    rows = read_rows(run)
    config = {}
    if (run / "config.json").is_file():
        config = json.loads((run / "config.json").read_text())
    steps = [row for row in rows if "loss" in row]
    looks = [row for row in rows if "loss" not in row and "skipped" not in row]
    skipped = [row for row in rows if "skipped" in row]
    title = html.escape(run.absolute().name)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>',
        f"<h1>{title}</h1>",
        _summary(config, steps, looks, skipped),
        _curves("Held-out pictures", looks),
        _curves("Training", steps),
        _skipped(skipped),
        _sheets(run),
        f"<h2>Recipe</h2><pre>{html.escape(json.dumps(config, indent=1))}</pre></html>",
    ]
    return "\n".join(part for part in parts if part)


def _summary(config: dict[str, Any], steps: list[Row], looks: list[Row], skipped: list[Row]) -> str:
    """Say where the run stands."""
    last = max((row["step"] for row in [*steps, *looks, *skipped]), default=0)
    lines = [("step", f"{last} of {config.get('steps', '?')}")]
    if steps:
        each = [row[TIMING] for row in steps if TIMING in row]
        lines.append(("loss", f"{steps[-1]['loss']:.4f}"))
        if each:
            middle = sorted(each)[len(each) // 2]
            lines.append(("seconds a step", f"{middle:.3g} (median)"))
    for name in _names(looks):
        best = max((row for row in looks if name in row), key=lambda row: row[name])
        now = [row[name] for row in looks if name in row][-1]
        lines.append((name, f"{now:.4f}, highest {best[name]:.4f} at step {best['step']}"))
    lines.append(("skipped steps", str(len(skipped))))
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>" for name, text in lines
    )
    return f"<table>{cells}</table>"


def _names(rows: list[Row]) -> list[str]:
    """Return what rows measure, the best known first."""
    found = dict.fromkeys(name for row in rows for name in row if name != "step")
    return sorted(found, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


def _curves(title: str, rows: list[Row]) -> str:
    figures = []
    for name in _names(rows):
        points = [(float(row["step"]), float(row[name])) for row in rows if name in row]
        caption = f"<figcaption>{html.escape(name)}</figcaption>"
        figures.append(f"<figure>{caption}{draw_curve(points)}</figure>")
    if not figures:
        return ""
    return f'<h2>{title}</h2><div class="curves">{"".join(figures)}</div>'


def _skipped(rows: list[Row]) -> str:
    if not rows:
        return ""
    cells = "".join(
        f'<tr><td class="n">{row["step"]}</td><td>{html.escape(str(row["skipped"]))}</td>'
        f"<td>{html.escape('; '.join(map(str, row.get('batch', []))))}</td></tr>"
        for row in rows
    )
    head = "<tr><th>step</th><th>why</th><th>samples</th></tr>"
    return f"<h2>Skipped steps</h2><table>{head}{cells}</table>"


def _sheets(run: Path) -> str:
    paths = sorted(run.glob("sheet_*.png"))
    count = min(MOST_SHEETS, len(paths))
    chosen = {paths[round(i * (len(paths) - 1) / max(1, count - 1))] for i in range(count)}
    figures = []
    for path in sorted(chosen, reverse=True):
        data = base64.b64encode(path.read_bytes()).decode()
        step = int(path.stem.removeprefix("sheet_"))
        image = f'<img alt="held-out samples" src="data:image/png;base64,{data}">'
        figures.append(f"<figure><figcaption>step {step}</figcaption>{image}</figure>")
    return f"<h2>Sheets</h2>{''.join(figures)}" if figures else ""


if __name__ == "__main__":
    sys.exit(main())
