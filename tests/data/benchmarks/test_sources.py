import numpy as np
import pytest

from data.benchmarks.sources import Download, find_prepared
from data.builders.table import DATA_SETS
from data.prepare import main
from tests.data.builders import imitations


@pytest.mark.parametrize("name", ["fss1000", "pascal5i"])
def test_a_download_reads_as_its_records_do(name, tmp_path):
    getattr(imitations, name)(tmp_path)
    download = Download(DATA_SETS[name].read(tmp_path))
    assert main([name, "--source", str(tmp_path)]) == 0
    prepared = find_prepared(tmp_path)[name]
    assert download.classes == prepared.classes
    for split in (None, *prepared.info["splits"]):
        assert download.pictures(split) == prepared.pictures(split)
    for picture in download.pictures()[::5]:
        assert download.areas(picture) == pytest.approx(prepared.areas(picture))
        for part in ("image", "labels"):
            one, other = (getattr(own, part)(picture) for own in (download, prepared))
            np.testing.assert_array_equal(one, other)


def test_prepared_sets_are_found_from_any_folder_around_them(tmp_path):
    imitations.perseg(tmp_path / "raw")
    sets = tmp_path / "sets"
    assert main(["perseg", "--source", str(tmp_path / "raw"), "--out", str(sets)]) == 0
    (tmp_path / "info.json").write_text("of another program")
    (sets / "info.json").write_text("{}")
    for path in (tmp_path, sets, sets / "perseg", sets / "perseg" / "1.0.0"):
        assert [*find_prepared(path)] == ["perseg"]
    assert find_prepared(tmp_path / "raw") == {}
