"""YOLO: lines of polygons, names in any of their files, and folders of images and labels."""

import pytest

from seggpt.errors import InputError

from .scenes import picture, read

LINE = "1 0.1 0.1 0.5 0.1 0.5 0.5\n"


def dataset(root, *, names="names: [leaf, stem]\n", split="", line=LINE):
    picture(root / "images" / split / "a.png")
    file = root / "labels" / split / "a.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(line)
    if names:
        (root / "data.yaml").write_text(f"path: .\n{names}train: images\n")
    return file


@pytest.mark.parametrize("split", ["", "train"])
def test_a_data_set_is_read_with_its_names(split, tmp_path):
    dataset(tmp_path, split=split)
    [labels], names = read(tmp_path)
    assert names == {2: "stem"}
    assert set(labels.ravel().tolist()) == {0, 2}
    assert read(tmp_path / "data.yaml")[1] == names
    assert read(tmp_path / "labels" / split / "a.txt")[1] == names


def test_a_split_finds_the_names_above_it(tmp_path):
    dataset(tmp_path / "train", names="")
    (tmp_path / "data.yaml").write_text("names: ['leaf', 'stem']\n")
    assert read(tmp_path / "train")[1] == {2: "stem"}
    assert read(tmp_path / "train/labels/a.txt")[1] == {2: "stem"}


@pytest.mark.parametrize(
    "names",
    [
        "names: ['leaf', \"stem\"]  # two\n",
        "names:\n- leaf\n- stem\n",
        "names:\n  0: leaf\n  1: stem\n\n",
        "names: {0: leaf, 1: 'stem'}\n",
        "names: [\n  leaf,\n  stem\n]\n",
    ],
)
def test_names_are_understood_in_all_ways(names, tmp_path):
    dataset(tmp_path, names=names)
    assert read(tmp_path)[1] == {2: "stem"}


def test_names_that_name_nothing_are_refused(tmp_path):
    dataset(tmp_path, names="names: !!python/object/apply:os.system [ls]\n".replace("[ls]", ""))
    with pytest.raises(InputError, match="line 1: class 1, and there are 1 names"):
        read(tmp_path)
    dataset(tmp_path, names="nc: 2\n")
    with pytest.raises(InputError, match=r"data.yaml: no names"):
        read(tmp_path)


def test_empty_files_are_pictures_of_nothing(tmp_path, caplog):
    dataset(tmp_path)
    picture(tmp_path / "images/b.png")
    (tmp_path / "labels/b.txt").write_text("\n")
    assert len(read(tmp_path)[0]) == 1
    assert "1 pictures without annotations are left out" in caplog.text
    assert len(read(tmp_path, empty=True)[0]) == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0 0.5 0.5 0.2 0.2", r"a box \(4 numbers\), and boxes are no masks"),
        ("0 0.1 0.1 0.5 0.5 0.5", "5 numbers, and x and y come in pairs"),
        ("0 0.1 0.1", "polygon needs 3 points or more, and has 1"),
        ("0 0.1 0.1 0.5 0.1 0.5 1.5", r"coordinates must be shares of the picture in 0..1 \(1.5\)"),
        ("0 0.1 0.1 0.5 0.1 0.5 nan", "coordinates must be"),
        ("0 0.1 0.1 0.5 0.1 0.5 x", "coordinates must be"),
        ("5 0.1 0.1 0.5 0.1 0.5 0.5", "class 5, and there are 2 names"),
        ("-1 0.1 0.1 0.5 0.1 0.5 0.5", "'-1' is no class"),
        ("99999999999999999999 0 0 0 0 0 0", "is no class"),
    ],
)
def test_mistakes_name_file_and_line(line, words, tmp_path):
    file = dataset(tmp_path, line=LINE + line)
    with pytest.raises(InputError, match=f"a.txt: line 2: .*{words}|a.txt: line 2: {words}"):
        read(file)


def test_a_caption_is_no_annotation(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a green leaf")
    with pytest.raises(InputError, match="no examples that we know"):
        read(tmp_path)
