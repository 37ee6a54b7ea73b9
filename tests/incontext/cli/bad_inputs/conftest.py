"""What all bad inputs must end in: an exit code, one line that says what is wrong, no crash."""

import io
from types import SimpleNamespace

import pytest
from PIL import Image

from incontext.cli import main


def encoded(image: Image.Image, file_format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture
def seggpt(place, capsys):
    """Run commands in a folder with an example pair.

    `fails` checks the exit code and the one line of errors; `works` that there is a result, and
    returns what was said.
    """

    def fails(code, gist, *argv):
        assert main([*argv, "-q"]) == code
        said = capsys.readouterr()
        (line,) = said.err.splitlines()
        assert line.startswith("seggpt: error: ")
        assert "internal error" not in line
        for words in [gist] if isinstance(gist, str) else gist:
            assert words in line

    def works(*argv):
        assert main([*argv]) == 0
        return capsys.readouterr().err

    return SimpleNamespace(
        fails=fails,
        works=works,
        picture=place.picture,
        pair=place.pair,
        written=place.written,
        run=place.run,
        records=place.records,
        out=[*place.pair, "-o", "out"],
    )
