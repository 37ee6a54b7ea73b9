"""JSON files that are none: one line with the place."""

import pytest

from incontext.annotations.find import find_examples
from incontext.annotations.parse import load_json, read_text
from seggpt.errors import InputError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [\n  1,,\n]}', r"line 2, column 5: invalid JSON \(Expecting value\)"),
        ("", "empty file"),
        ("[" * 100_000, "invalid JSON: nested too deeply"),
        ('{"a": NaN}', "invalid JSON: NaN is no number"),
        ('{"a": ' + "9" * 5000 + "}", "invalid JSON: "),
        (b"\xff\xfe{", r"no UTF-8 text \(byte 1\)"),
        ("5", "neither COCO"),
        ('{"images": 5, "annotations": []}', "images must be a list, and is 5"),
        ('{"images": [5], "annotations": []}', "image at place 1: must be an object, and is 5"),
        ('{"images": [], "annotations": {}}', "annotations must be a list, and is an object"),
        ('{"images": [], "annotations": []}', "nothing is marked in any picture"),
        (
            '{"shapes": [{"label": "a", "points": [[1e999, 0], [0, 0], [1, 1]]}]}',
            "shape 1: point 1: inf is no coordinate",
        ),
        ('{"shapes": "x"}', "shapes must be a list, and is 'x'"),
        ('{"type": "FeatureCollection"}', "features is missing"),
    ],
)
def test_what_is_wrong_is_one_line(text, words, tmp_path):
    file = tmp_path / "a: b.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"a: b.json: {words}") as refused:
        find_examples(file)
    assert "\n" not in str(refused.value)


def test_a_byte_order_mark_is_no_mistake(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert load_json(tmp_path / "a.json")["a"].whole() == 1


def test_large_files_and_what_is_no_file_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("x" * 100)
    with pytest.raises(InputError, match="are the most"):
        read_text(tmp_path / "a.json", max_bytes=50)
    with pytest.raises(InputError, match="not a regular file"):
        read_text(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_text(tmp_path / "gone.json")
