"""Labels for the classes of several files: one name has one number in all of them."""

import logging
from collections.abc import Mapping, Sequence

from incontext.annotations.shapes import Class
from incontext.annotations.source import Source
from incontext.files.mask_rules import listed
from incontext.wording import option
from seggpt.errors import InputError

MOST_LABEL = 65535

logger = logging.getLogger(__name__)


def number_classes(
    sources: Sequence[Source], names: Mapping[int, str]
) -> tuple[dict[Class, int], dict[int, str]]:
    """Return the label of every class, and what labels are called.

    A name that is among `names` has the number there; else numbers of files count. Names without a
    number are those numbers if all are numbers themselves, or follow in alphabetical order.

    Raises:
        InputError: Two files give one name two numbers, or one number two names.
    """
    told: dict[str, int] = {}
    for label, name in names.items():
        told.setdefault(name, label)
    used = _Used({label: (name, option("names")) for label, name in _relevant(names, sources)})
    labels: dict[Class, int] = {}
    unnumbered: dict[str, str] = {}
    for source in sources:
        for of in _classes(source):
            if of.name is not None and (of.name in told or of.number is None):
                if of.name in told:
                    labels[of] = told[of.name]
                else:
                    unnumbered.setdefault(of.name, source.name)
            elif of.number is not None:
                labels[of] = used.claim(of.number, of.name, source.name)
    are_numbers = all(_as_label(name) for name in unnumbered)
    if unnumbered:
        for name in sorted(unnumbered):
            known = used.number_of(name)
            number = known or (_as_label(name) if are_numbers else used.free())
            labels[Class(name=name)] = used.claim(number, name, unnumbered[name])
        if not are_numbers and len(unnumbered) > 1:
            said = tuple(f"{labels[Class(name=name)]}={name}" for name in sorted(unnumbered))
            logger.warning(
                "%s: classes are numbered by name: %s; %s gives them other numbers",
                next(iter(unnumbered.values())),
                listed(said),
                option("names"),
            )
    called = {number: of.name for of, number in labels.items() if of.name is not None}
    return labels, {number: called[number] for number in sorted(called)}


class _Used:
    """Which labels are taken: by what name, and by which file."""

    def __init__(self, owners: dict[int, tuple[str | None, str]]) -> None:
        self.owners = owners

    def number_of(self, name: str) -> int | None:
        """Return the number of a name."""
        return next((number for number, (own, _) in self.owners.items() if own == name), None)

    def free(self) -> int:
        """Return the smallest number that is not taken."""
        return next(
            number for number in range(1, len(self.owners) + 2) if number not in self.owners
        )

    def claim(self, number: int, name: str | None, file: str) -> int:
        """Take a number for a name.

        Raises:
            InputError: It is taken for another name, or the name has another number.
        """
        own, first = self.owners.setdefault(number, (name, file))
        if name is not None and own is not None and own != name:
            raise InputError(
                f"{file}: label {number} is '{name}', and '{own}' in {first}; {option('names')} "
                "decides which number each name has"
            )
        if name is not None and own is None:
            self.owners[number] = (name, first)
        other = self.number_of(name) if name is not None else number
        if other != number:
            raise InputError(
                f"{file}: '{name}' has the label {number}, and {other} in "
                f"{self.owners[other or 0][1]}; {option('names')} decides which number each name "
                "has"
            )
        return number


def _relevant(names: Mapping[int, str], sources: Sequence[Source]) -> list[tuple[int, str]]:
    """Return the names of labels if files know some of them; else they only rename labels."""
    known = {of.name for source in sources for of in _classes(source)}
    return list(names.items()) if known & set(names.values()) else []


def _classes(source: Source) -> list[Class]:
    found = {
        region.of
        for picture in source.annotated
        for region in picture.regions
        if region.of is not None
    }
    return sorted(found, key=lambda of: (of.number or 0, of.name or ""))


def _as_label(name: str) -> int:
    """Return a name that is a label's number; 0 if it is none."""
    is_number = name.isascii() and name.isdecimal() and len(name) < 6 and name[0] != "0"
    return int(name) if is_number and int(name) <= MOST_LABEL else 0
