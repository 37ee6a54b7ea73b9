"""The few-shot benchmarks as HSNet and Matcher run them: folds, classes and episodes.

An episode is drawn by NumPy's old generator from a fixed seed, one draw after the other, as in
HSNet's `test.py` (`--bsz 1 --nworker 0`, seed 0; github.com/juhongm999/hsnet) and in Matcher for
LVIS-92i (github.com/aim-uofa/Matcher). Given the same lists of pictures in the same order, the
episodes are theirs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from data.benchmarks.episodes import Episode

Name = Literal["coco20i", "pascal5i", "fss1000", "lvis92i", "perseg"]

SEED = 0
EPISODES = {"coco20i": 1000, "pascal5i": 1000, "lvis92i": 2300}  # the others ask for every picture
FOLDS = {"coco20i": 4, "pascal5i": 4, "lvis92i": 10, "fss1000": 1, "perseg": 1}
CLASSES = {"coco20i": 80, "pascal5i": 20}
FSS_PICTURES = 10  # of a class, 1.jpg to 10.jpg
PERSEG_EXAMPLE = "00"

Pictures = Mapping[int, Sequence[str]]  # of each class, in the order that draws count in
T = TypeVar("T")


@dataclass(frozen=True)
class Pool:
    """What a layout offers a benchmark to draw from."""

    classes: Mapping[int, str]  # names by id
    pictures: Pictures
    queries: Sequence[tuple[str, int]] = ()  # pictures and classes in the order they are asked for
    is_official: bool = False  # whether the lists are the published ones


def fold_classes(name: Name, fold: int, ids: Sequence[int]) -> list[int]:
    """Return the classes of a fold; `ids` are all of them, in order.

    PASCAL-5i has five that follow each other, COCO-20i and LVIS-92i every fourth and tenth.

    Raises:
        ValueError: if there is no such fold, or not as many classes as the benchmark has.
    """
    folds = FOLDS[name]
    if not 0 <= fold < folds:
        raise ValueError(f"--fold {fold}: {name} has folds 0 to {folds - 1}")
    if len(ids) != CLASSES.get(name, len(ids)):
        raise ValueError(f"{name} has {CLASSES[name]} classes, not {len(ids)}")
    each = len(ids) // folds
    if name == "pascal5i":
        return list(ids[fold * each : (fold + 1) * each])
    return [ids[fold + folds * number] for number in range(each)]


def draw_episodes(
    name: Name, pool: Pool, *, fold: int = 0, shots: int = 1, seed: int = SEED
) -> list[Episode]:
    """Draw all episodes of a fold.

    Raises:
        ValueError: if there is no such fold, or a class has not enough pictures.
    """
    if shots < 1:
        raise ValueError(f"--shots {shots} must be 1 or more")
    if name == "perseg":
        return _perseg(pool, shots)
    rng = np.random.RandomState(seed)  # whose draws are published

    def pick(items: Sequence[T]) -> T:
        return items[int(rng.choice(len(items), 1, replace=False)[0])]

    ids = list(pool.classes)
    if name == "lvis92i":  # classes without enough pictures are in no fold
        ids = [class_id for class_id in ids if len(pool.pictures[class_id]) > shots]
    classes = fold_classes(name, fold, ids)
    if short := [c for c in classes if len(set(pool.pictures[c])) <= 1]:
        raise ValueError(f"{name}: class {pool.classes[short[0]]} has fewer than 2 pictures")
    queries = [query for query in pool.queries if query[1] in set(classes)]
    episodes = []
    for number in range(EPISODES.get(name, len(queries))):
        if name == "coco20i":
            class_id = pick(classes)
            query = pick(pool.pictures[class_id])
        elif name == "lvis92i":
            class_id = classes[number % len(classes)]
            query = pick(pool.pictures[class_id])
        else:
            query, class_id = queries[number % len(queries)]
        examples = _examples(pool.pictures[class_id], query, shots, pick)
        episodes.append(Episode(name, class_id, pool.classes[class_id], query, examples))
    return episodes


def _examples(
    pictures: Sequence[str], query: str, shots: int, pick: Callable[[Sequence[str]], str]
) -> tuple[str, ...]:
    """Draw until there are enough that are not the query; one may come twice."""
    examples: list[str] = []
    while len(examples) < shots:
        if (example := pick(pictures)) != query:
            examples.append(example)
    return tuple(examples)


def _perseg(pool: Pool, shots: int) -> list[Episode]:
    """Ask for each object in all of its pictures but the first, which is the example."""
    if shots != 1:
        raise ValueError("perseg has one example an object; pass --shots 1")
    episodes = []
    for class_id, name in pool.classes.items():
        first, *others = pool.pictures[class_id]
        episodes += [Episode("perseg", class_id, name, other, (first,)) for other in others]
    return episodes
