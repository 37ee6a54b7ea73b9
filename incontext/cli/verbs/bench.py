"""`seggpt bench`: time and memory of a model on this machine, next to a peer if asked."""

import argparse
import dataclasses

from incontext.cli.console import Console
from incontext.cli.options import Subparsers, positive
from incontext.cli.outcome import Exit, UsageError
from seggpt.config import ENCODERS

PEERS = ("transformers",)
PEER_DTYPES = ("float32", "bfloat16")
SAM_SIZES = ("sam_base", "sam_large", "sam_huge")
TASKS = ("segment", "encode", "click", "everything")
EPILOG = """\
examples:
  seggpt bench
  seggpt bench --model large --examples 1 8 --against transformers
  seggpt bench --model sam_base --task click --against transformers
  seggpt bench --model sam_base --task everything --runs 1 --against transformers
  seggpt bench --model dinov3-base --task encode --size 672

A picture's time is from pixels in memory to a mask in memory, with the examples encoded before.
Every subject has a process of its own; they take turns, picture by picture. `of matmul` is the
share of what a large matrix product reaches on the same device.

Tasks of a promptable model, on a picture of 1024x768: encode it; click on it once it is encoded,
with three masks of its size; or find everything. Both sides of a comparison have the same random
weights. Their masks are blobs, and the filters of everything mode (the same on both sides) are such
that about 40% of them pass.

An image encoder alone (the names are those of `seggpt models`) has random weights, and a square
picture of --size, or the nearest that its patches divide. `cpu s` is what all cores worked for a
picture: what it would take on one core that has nothing else to do.
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
        help="weights, or random ones of a size: tiny, small, base, large, painter; sam_base, "
        "sam_large, sam_huge for the tasks of promptable models; dinov3-base and such to encode",
    )
    parser.add_argument("--task", choices=TASKS, default="segment", help="default: segment")
    parser.add_argument(
        "--examples", type=positive, nargs="+", default=[1], metavar="K", help="default: 1"
    )
    parser.add_argument(
        "--points-per-side", type=positive, default=32, metavar="N", help="of --task everything"
    )
    parser.add_argument(
        "--size", type=positive, metavar="PX", help="side of an encoder's picture (default: 448)"
    )
    parser.add_argument("--runs", type=positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu (default: the best)")
    parser.add_argument("--dtype", choices=PEER_DTYPES, help="default: the device's own")
    parser.add_argument("--against", choices=PEERS, help="measure this too (must be installed)")
    parser.add_argument("--json", action="store_true", help="one JSON event a row on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    _check(args)
    # subprocess and what it needs cost 20 ms that `--help` must not pay.
    from incontext.bench import Job, format_rows, measure

    segments = args.task == "segment"
    model = "large" if args.against and args.model is None else args.model
    job = Job(
        model=model,
        task=args.task,
        points_per_side=args.points_per_side,
        device=args.device,
        dtype=args.dtype,
        size=args.size or 448,
    )
    # The pipeline of everything mode is not made for bfloat16.
    dtypes = PEER_DTYPES[:1] if args.task == "everything" else PEER_DTYPES
    rows = []
    for count in args.examples if segments else [1]:
        jobs = [dataclasses.replace(job, examples=count)]
        if args.against:
            jobs += [dataclasses.replace(jobs[0], peer=True, dtype=dtype) for dtype in dtypes]
        with console.progress(len(jobs) * args.runs, label=jobs[0].label) as advance:
            measured = measure(jobs, runs=args.runs, advance=advance)
        for row in measured:
            console.event("row", **dataclasses.asdict(row))
        rows += measured
    if not args.json:
        for line in format_rows(rows).splitlines():
            console.data(line)
    return Exit.DONE


def _check(args: argparse.Namespace) -> None:
    """Make sure that the model can do the task, and that the peer has one of its size.

    Raises:
        UsageError: It cannot, or has not.
    """
    model, segments = args.model, args.task == "segment"
    if args.size is not None and model not in ENCODERS:
        raise UsageError(f"--size goes with an image encoder: --model {', '.join(ENCODERS)}")
    if model in ENCODERS and args.task != "encode":
        raise UsageError(f"--model {model} is an image encoder; add --task encode")
    if segments and model in SAM_SIZES:
        raise UsageError(f"--model {model} does not segment; add --task encode, click, everything")
    if not segments and model is None:
        raise UsageError(f"--task {args.task} needs --model: sam_base, or a SAM checkpoint")
    sizes = (None, "large") if segments else SAM_SIZES
    if args.against and model not in sizes:
        raise UsageError(
            f"--against {args.against} compares --model {' or '.join(filter(None, sizes))}, "
            f"not {model}"
        )
