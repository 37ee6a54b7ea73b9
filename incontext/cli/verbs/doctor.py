"""`seggpt doctor`: what is installed, what it runs on, and whether it works."""

import argparse
import json

from incontext.cli.console import Console
from incontext.cli.options import Subparsers
from incontext.cli.outcome import Exit


def add_parser(verbs: Subparsers) -> argparse.ArgumentParser:
    """Add the verb and return its parser."""
    parser = verbs.add_parser(
        "doctor",
        help="versions, devices, weights, and a self-test",
        description="Say what is installed and what it runs on, and segment a drawn picture.",
    )
    parser.set_defaults(run=run)
    parser.add_argument("--device", metavar="NAME", help="cpu, gpu, tpu, gpu:1 (default: the best)")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def run(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out the verb."""
    # jax: not before the arguments have been parsed.
    from incontext.cli.work.doctor import check_up

    report = check_up(args.device)
    if console.events:
        console.data(json.dumps(report.sections | {"problems": report.problems}))
    else:
        for section, facts in report.sections.items():
            console.data(section)
            for name, value in facts.items():
                console.data(f"  {name:<14}{value}")
    for problem in report.problems:
        console.error(problem)
    return Exit.NOTHING if report.problems else Exit.DONE
