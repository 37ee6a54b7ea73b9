"""`seggpt tune` at work: pair the files, tune, save, say what came of it."""

import argparse
import importlib.util
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import incontext
from incontext.annotations.naming import MASK_SUFFIXES, pair_by_name, shown
from incontext.cli.console import Console
from incontext.cli.environment import prepare_jax
from incontext.cli.inputs import make_examples, read_annotations
from incontext.cli.names import read_names
from incontext.cli.outcome import Exit, UsageError
from incontext.cli.plan import require_writable
from incontext.files.images import find_images
from incontext.tune.config import TuneConfig
from seggpt.errors import InputError

# Arguments that are settings of the run, and what those are called.
SETTINGS = {
    "learn": "learn",
    "start": "start",
    "prompts": "prompts",
    "steps": "steps",
    "minutes": "minutes",
    "batch": "batch_size",
    "micro_batch": "micro_batch",
    "lr": "lr",
    "hold_out": "hold_out",
    "turns": "turns",
    "remat": "remat",
    "seed": "seed",
}


def tune_all(args: argparse.Namespace, console: Console) -> Exit:
    """Carry out `seggpt tune`; every check that needs no model comes before the model."""
    out = Path(args.output)
    pairs = pair_files(args.images, args.masks, console) if args.masks else ()
    names = read_names(args.names)
    found = read_annotations(args, names)
    require_writable(out.parent)
    prepare_jax()
    # jax: after everything that could be wrong with the arguments.
    from incontext.tune.report import format_table, write_page
    from incontext.tune.resume import state_path
    from incontext.tune.tuner import tune_prompt

    config = choose_config(args)
    state = state_path(out)
    if state.exists() and not args.resume:
        state.unlink()  # of a run that was given up
    segmenter = incontext.Segmenter.from_pretrained(
        args.model, encoder=args.encoder, device=args.device
    )
    examples = make_examples(args, pairs, found)
    with live_line(console) as tell:
        tuned = tune_prompt(
            segmenter,
            examples,
            config=config,
            seg_type=args.seg_type,
            names=names,
            labels=args.labels,
            tell=tell,
            say=console.say,
            state_for=out,
            resume=args.resume,
            command=command_of(args),
        )
    tuned.context.save(out)
    if args.report:
        for line in () if console.events else format_table(tuned).splitlines():
            console.data(line)
        write_page(Path(args.report), tuned, segmenter, command=command_of(args))
    console.event(
        "tuned",
        output=str(out),
        is_tuned=tuned.is_tuned,
        score=tuned.score,
        plain={plain.name: plain.score for plain in tuned.plains},
        ending=tuned.ending,
        threshold=tuned.context.threshold,
    )
    if tuned.ending == "interrupted":
        stop = KeyboardInterrupt()
        further = "go on with --resume --overwrite" if state.exists() else "repeat to learn it"
        stop.add_note(f"{tuned.verdict} -> {out}; {further}")
        raise stop
    if tuned.ending == "minutes" and state.exists():
        console.say("stopped as the time was up (--minutes); go on with --resume --overwrite")
    else:
        state.unlink(missing_ok=True)
    console.say(f"{tuned.verdict} -> {out}")
    return Exit.DONE


def choose_config(args: argparse.Namespace) -> TuneConfig:
    """Return a recipe, or the defaults, with what the command line changes.

    Raises:
        UsageError: The recipe is none, or the settings contradict each other.
    """
    asked = {field: getattr(args, name) for name, field in SETTINGS.items()}
    try:
        base = load_recipe(args.config) if args.config else TuneConfig()
        return replace(base, **{name: value for name, value in asked.items() if value is not None})
    except ValueError as error:
        raise UsageError(str(error)) from error


def load_recipe(path: str) -> TuneConfig:
    """Run a recipe file and return what its `get_config` gives.

    Raises:
        UsageError: It gives something else, or nothing.
    """
    spec = importlib.util.spec_from_file_location("recipe", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--config {path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        config = module.get_config() if hasattr(module, "get_config") else None
    except Exception as error:  # a recipe is a program, and may raise anything
        raise UsageError(f"--config {path}: {type(error).__name__}: {error}") from error
    if not isinstance(config, TuneConfig):
        raise UsageError(f"--config {path}: a recipe has a function get_config() -> TuneConfig")
    return config


def pair_files(images: str, masks: str, console: Console) -> Sequence[tuple[Path, Path]]:
    """Pair pictures and masks by name; what has no partner is left out and said.

    Raises:
        InputError: A folder is missing or empty.
        UsageError: No two files pair up, or a mask would belong to two pictures.
    """
    own = Path(masks).resolve()
    is_one = own == Path(images).resolve()
    pictures = [
        pair
        for pair in find_images([images])
        # A folder of masks inside that of the pictures holds no pictures.
        if is_one or own not in pair[0].resolve().parents
    ]
    found = find_images([masks], suffixes=MASK_SUFFIXES)
    try:
        pairing = pair_by_name(pictures, found)
    except InputError as error:
        raise UsageError(str(error)) from error
    if not pairing.pairs:
        stem = pictures[0][1]
        raise UsageError(
            f"no picture in {images} has a mask in {masks}: {pictures[0][0]} needs "
            f"{Path(masks) / f'{stem}.png'}, and there is {found[0][0]}"
        )
    if missing := pairing.lone_pictures:
        stem = missing[0].stem
        console.say(
            f"{len(missing)} of {len(pictures)} pictures have no mask and are left out: "
            f"{shown(missing)}; add {Path(masks) / f'{stem}.png'}"
        )
    if pairing.lone_masks and not is_one:
        console.say(
            f"{len(pairing.lone_masks)} masks have no picture and are left out: "
            f"{shown(pairing.lone_masks)}"
        )
    return pairing.pairs


def command_of(args: argparse.Namespace) -> str:
    """Return the command line without what is nobody's business in a file that is passed on."""
    words = ["seggpt", "tune"]
    words += [_bare(folder) for folder in (args.images, args.masks) if folder]
    for path in args.examples:
        words += ["--examples", _bare(path)]
    words += ["-o", os.path.basename(args.output)]
    for name in ("config", "learn", "start", "prompts", "steps", "lr", "hold_out", "seed"):
        value = getattr(args, name)
        value = os.path.basename(value) if name == "config" and value else value
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    words += [f"--{name}" for name in ("turns",) if getattr(args, name)]
    if args.labels:
        words += ["--labels", ",".join(map(str, args.labels))]
    return shlex.join(words)


def _bare(path: str) -> str:
    return os.path.basename(path.rstrip(os.sep))


@contextmanager
def live_line(console: Console) -> Iterator[Any]:
    """Show where a run stands on one line of a terminal, or as JSON events if asked."""
    if console.events:
        yield lambda progress: console.event("step", **vars(progress))
        return
    with console.status() as show:

        def tell(progress: Any) -> None:
            minutes, seconds = divmod(round(progress.seconds_left), 60)
            show(
                f"step {progress.step}/{progress.steps}  loss {progress.loss:.3f}  "
                f"IoU {progress.before:.1f} before, {progress.now:.1f} now, "
                f"{progress.best:.1f} best  {minutes}:{seconds:02d} left"
            )

        yield tell
