import subprocess
import sys

import numpy as np

from data.checks.memory import draw_batches, peak_memory, write_pictures
from data.folder import open_folders


def test_pictures_are_drawn_from_records(tmp_path):
    write_pictures(tmp_path, 30)
    [folder] = open_folders(tmp_path)
    assert len(folder.pictures("train")) == 30
    assert draw_batches(tmp_path) > 2**20


def test_a_process_is_not_charged_with_what_its_parent_had():
    taken = np.ones(2**29, np.uint8)
    assert peak_memory() > taken.nbytes
    code = "from data.checks.memory import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert 0 < int(child.stdout) < taken.nbytes
