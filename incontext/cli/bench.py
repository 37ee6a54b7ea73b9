"""`seggpt bench`: time and memory of a model on this machine, next to a peer if asked."""

import argparse
import dataclasses

from incontext.cli.console import Console
from incontext.cli.outcome import Exit, UsageError
from incontext.cli.verbs import Subparsers, positive

PEERS = ("transformers",)
PEER_DTYPES = ("float32", "bfloat16")
EPILOG = """\
examples:
  seggpt bench
  seggpt bench --model large --examples 1 8 --against transformers

A picture's time is from pixels in memory to a mask in memory, with the examples encoded before.
Every subject has a process of its own; they take turns, picture by picture. `of matmul` is the
share of what a large matrix product reaches on the same device.
"""


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "bench",
        help="time and memory on this machine",
        description="Measure time and memory per picture.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        help="weights, or tiny, small, base, large, painter: random ones of that size",
    )
    parser.add_argument(
        "--examples", type=positive, nargs="+", default=[1], metavar="K", help="default: 1"
    )
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu (default: the best)")
    parser.add_argument("--dtype", choices=PEER_DTYPES, help="default: the device's own")
    parser.add_argument("--against", choices=PEERS, help="measure this too (must be installed)")
    parser.add_argument("--json", action="store_true", help="one JSON event a row on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    if args.against and args.model not in ("large", None):
        raise UsageError(f"--against {args.against} compares --model large, not {args.model}")
    # subprocess and what it needs cost 20 ms that `--help` must not pay.
    from incontext.bench import Job, format_rows, measure

    model = "large" if args.against else args.model
    rows = []
    for count in args.examples:
        job = Job(model=model, examples=count, device=args.device, dtype=args.dtype)
        jobs = [job]
        if args.against:
            jobs += [dataclasses.replace(job, peer=True, dtype=dtype) for dtype in PEER_DTYPES]
        label = f"{count} example{'s' if count > 1 else ''}"
        with console.progress(len(jobs) * args.runs, label=label) as advance:
            measured = measure(jobs, runs=args.runs, advance=advance)
        for row in measured:
            console.event("row", **dataclasses.asdict(row))
        rows += measured
    if not args.json:
        for line in format_rows(rows).splitlines():
            console.data(line)
    return Exit.DONE
