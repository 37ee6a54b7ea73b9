from data.checks.memory import draw_batches, write_pictures
from data.folder import open_folders


def test_pictures_are_drawn_from_records(tmp_path):
    write_pictures(tmp_path, 30)
    [folder] = open_folders(tmp_path)
    assert len(folder.pictures("train")) == 30
    assert draw_batches(tmp_path) > 2**20
