"""`--names`: a file with the names of labels."""

import json
from pathlib import Path
from typing import Any

from incontext.cli.outcome import UsageError


def read_names(path: str | None) -> dict[int, str]:
    """Read names of labels: an object of them, or one with them under `classes`.

    Raises:
        UsageError: The file is missing or holds something else.
    """
    if path is None:
        return {}
    try:
        found: Any = json.loads(Path(path).read_text(encoding="utf-8"))
        found = found.get("classes", found)
        return {int(label): str(name) for label, name in found.items()}
    except OSError as error:
        raise UsageError(f"--names {path}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise UsageError(f'--names {path}: must be JSON like {{"1": "crop"}}') from error
