"""Comparison of published tensors with a table of names; all differences in one error."""

from collections.abc import Collection, Mapping
from pathlib import Path

from seggpt.errors import CheckpointError
from seggpt.weights.containers import Tensors
from seggpt.weights.names import Name
from seggpt.weights.shapes import match_shape, spell_shape

_SHOWN = 3


def check_tensors(
    path: Path,
    tensors: Tensors,
    table: list[Name],
    prefix: str,
    *,
    model: str,
    spare: Collection[str],
    values: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Compare names, types and shapes; return the values of the shapes' letters.

    `prefix` stands before every name of the table in the file. `spare` are further whole names
    that the file may hold and nothing reads, `values` those that are known before.

    Raises:
        CheckpointError: one line that counts what is wrong and names the first of each kind.
    """
    values = dict(values or {})
    missing: list[str] = []
    wrong: list[str] = []
    read_bytes = 0
    for name in table:
        info = tensors.infos.get(prefix + name.theirs)
        if info is None:
            missing.append(name.theirs)
        elif not info.floating:
            wrong.append(f"{name.theirs} does not hold floats")
        elif not match_shape(name.shape, shape=info.shape, values=values):
            wanted = spell_shape(name.shape, values=values)
            wrong.append(f"{name.theirs} is {info.shape} where {wanted} is needed")
        else:
            read_bytes += info.size_bytes
    unknown = set(tensors.infos) - {prefix + name.theirs for name in table} - set(spare)
    unexpected = sorted(name if name.isprintable() else repr(name) for name in unknown)
    problems = [
        _summary(f"{len(missing)} missing", missing),
        _summary(f"{len(unexpected)} unexpected", unexpected),
        _summary(f"{len(wrong)} of a wrong shape or type", wrong),
    ]
    if any(problems):
        said = "; ".join(filter(None, problems))
        raise CheckpointError(f"{path}: not a usable {model} checkpoint: tensors {said}")
    # Tensors may share bytes in a .pth; these models share none, and copies would not be bounded.
    if read_bytes > tensors.size_bytes:
        raise CheckpointError(f"{path}: its tensors share storage, which these models never do")
    return values


def _summary(head: str, items: list[str]) -> str:
    if not items:
        return ""
    shown = ", ".join(item[:160] for item in items[:_SHOWN])
    return f"{head} ({shown}{', ...' if len(items) > _SHOWN else ''})"
