import io
import os
import pickle
import random
import tarfile
import time
import tracemalloc
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seggpt.errors import CheckpointError
from seggpt.weights import Global, Stub, load_published, read_pth
from tests.damage import SEEDS, change_bytes, refusal

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def values():
    return read_pth(GOLDEN / "values.pth")


@pytest.mark.parametrize(
    "name",
    [
        "float32",
        "float64",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "bool",
        "bfloat16",
        "float8_e4m3fn",
        "float8_e5m2",
    ],
)
def test_every_type_is_read_exactly(values, name):
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    array = values["model"][name]
    assert array.dtype == dtype
    np.testing.assert_array_equal(array, np.arange(6).astype(dtype).reshape(2, 3))


def test_views_of_one_storage_are_read_exactly(values):
    views, counted = values["views"], np.arange(24, dtype=np.float32)
    expected = {
        "transposed": counted.reshape(4, 6).T,
        "tail": counted[20:],
        "strided": counted[1::5],
        "broadcast": None,
        "empty": np.zeros((0, 3)),
        "scalar": np.array(7.0),
        "parameter": np.ones(2),
    }
    assert views.keys() == expected.keys()
    for name in expected.keys() - {"broadcast"}:
        np.testing.assert_array_equal(views[name], expected[name])
        assert views[name].shape == expected[name].shape


def test_arrays_look_into_the_file_and_cannot_be_changed(values):
    array = values["views"]["transposed"]
    assert not array.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_what_is_not_a_tensor_is_plain_or_inert(values):
    assert values["numbers"] == {
        "epoch": 3,
        "big": 2**70,
        "negative": -5,
        "loss": 0.25,
        "none": None,
        "yes": True,
    }
    assert isinstance(values["args"], Stub)
    assert values["args"].name == "argparse Namespace"
    assert values["args"].state == {"lr": 1e-3, "name": "run", "betas": (0.9, 0.999)}
    assert repr(values["numpy"]) == "<Stub numpy._core.multiarray scalar>"
    assert values["size"] == (1, 2)
    assert values["dtype"] == Global("torch float32")
    assert values["device"] == "cpu"
    assert values["list"] == [1, "two", (3,)]
    assert list(values["module"]) == ["weight", "bias"]
    assert values["optimizer"]["state"][0]["step"] == 1


@pytest.mark.torch
def test_torch_reads_the_same(values):
    torch = pytest.importorskip("torch")
    theirs = torch.load(GOLDEN / "values.pth", weights_only=False)
    for name, tensor in (theirs["model"] | theirs["views"]).items():
        ours = (values["model"] | values["views"])[name]
        np.testing.assert_array_equal(ours.astype(np.float64), tensor.detach().double().numpy())
        assert ours.shape == tuple(tensor.shape)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("legacy.pth", "torch before 1.6.*save it again"),
        ("script.pt", "a TorchScript program.*state_dict"),
    ],
)
def test_other_torch_formats_are_refused_with_advice(file, message):
    with pytest.raises(CheckpointError, match=message):
        read_pth(GOLDEN / file)


def test_a_tar_file_is_refused_with_advice(tmp_path):
    with tarfile.open(tmp_path / "x.pth", "w") as archive:
        archive.add(GOLDEN / "legacy.pth", "storages")
    with pytest.raises(CheckpointError, match=r"torch before 0.4"):
        read_pth(tmp_path / "x.pth")


def refused(tmp_path, data):
    """Read a file that must be refused: quickly, in one line, without much memory."""
    path = tmp_path / "x.pth"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(CheckpointError) as caught:
        read_pth(path)
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 32 << 20
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 400
    return message


class Evil:
    """Pickles itself as a call."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Evil(os.system, "touch pwned"), f"{os.name}.system"),
        (Evil(eval, "open('pwned', 'w')"), "__builtin__.eval"),
        (Evil(getattr, os, "system"), None),
        (Evil(io.FileIO, "pwned", "w"), "_io.FileIO"),
        (Path("x"), None),
    ],
)
def test_code_is_named_and_not_run(tmp_path, monkeypatch, build, evil, name):
    monkeypatch.chdir(tmp_path)
    try:
        data = pickle.dumps({"model": evil}, protocol=2)
    except TypeError:  # a module cannot be pickled: write the call by hand
        data = build.pickle(b"cos\nsystem\n(X\x01\x00\x00\x00xtR")
    message = refused(tmp_path, build.zip(data))
    assert "refused global" in message
    assert name is None or name in message
    assert os.listdir(tmp_path) == ["x.pth"]


def test_names_are_refused_before_anything_is_obeyed(tmp_path, build):
    late = b"}X\x01\x00\x00\x00a" + b"cposix\nsystem\ns"
    body = build.tensor(count=1, size=(1,), stride=(1,)) + b"0" + late
    assert "refused opcode POP" in refused(tmp_path, build.zip(build.pickle(body)))
    two_names = b"(" + b"ctorch\nFloatStorage\n" + b"cposix\nsystem\n" + b"t"
    assert "posix.system" in refused(tmp_path, build.zip(build.pickle(two_names)))


@pytest.mark.parametrize(
    "body",
    [
        b"cargparse\nNamespace.__init__\n",
        b"cargparse Namespace\n\n",
        b"ctorch\nload\n",
        b"ctorch._utils\n_rebuild_qtensor\n",
        b"c__main__\nModel\n",
    ],
)
def test_names_beside_the_allowed_ones_are_refused(tmp_path, build, body):
    assert "refused global" in refused(tmp_path, build.zip(build.pickle(body)))


@pytest.mark.parametrize(
    "code", [b"\x93", b"\x8f", b"\x92", b"i", b"o", b"\x82\x01", b"P", b"I", b"0"]
)
def test_opcodes_beside_the_allowed_ones_are_refused(tmp_path, build, code):
    refused(tmp_path, build.zip(build.pickle(code + b"x\ny\n")))


def test_the_nine_byte_memo_bomb_is_refused(tmp_path, build):
    bomb = b"\x80\x02Nr\x00\x00\x00\x08."
    assert len(bomb) == 9
    assert "memo index 134217728" in refused(tmp_path, build.zip(bomb))


@pytest.mark.parametrize(
    ("pickle", "message"),
    [
        (b"\x80\x04}.", "protocol 2"),
        (b"", "protocol 2"),
        (b"\x80\x02}", "damaged pickle"),
        (b"\x80\x02X\xff\xff\xff\x7fa.", "damaged pickle"),
        (b"\x80\x02}.}.", "2 bytes follow"),
        (b"\x80\x02.", "not empty"),
        (b"\x80\x02(.", "not empty"),
        (b"\x80\x02]N}s.", "sets items of a list"),
        (b"\x80\x02}]}s.", "dictionary key of type list"),
        (b"\x80\x02}))s.", "dictionary key of type tuple"),
        (b"\x80\x02}(Nu.", "nonsensical"),
        (b"\x80\x02}h\x05.", "nonsensical"),
        (b"\x80\x02t.", "nonsensical"),
        (b"\x80\x02}Na.", "appends to a dict"),
        (b"\x80\x02NNb.", "sets the state of a NoneType"),
        (b"\x80\x02N)R.", "REDUCE of a NoneType"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "unknown way"),
        (b"\x80\x02ccollections\nOrderedDict\nN\x85R.", "unknown way"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.", "unknown way"),
        (b"\x80\x02NQ.", "not a storage"),
        (b"\x80\x02N.", "holds a NoneType"),
        (b"\x80\x02}K\x01Ns.", "holds a dict"),
    ],
)
def test_nonsense_is_refused(tmp_path, build, pickle, message):
    assert message in refused(tmp_path, build.zip(pickle))


def test_endless_pickles_are_refused(tmp_path, build):
    many = build.zip(build.pickle(b"]" * 500_000))
    assert "opcodes" in refused_slowly(tmp_path, many)
    long = build.zip(build.pickle(build.text("x" * (1 << 20) + "x")))
    assert "a string of" in refused_slowly(tmp_path, long)


def refused_slowly(tmp_path, data):
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        read_pth(tmp_path / "x.pth")
    return str(caught.value)


def test_deep_nesting_does_not_end_the_process(tmp_path, build):
    path = tmp_path / "x.pth"
    path.write_bytes(build.zip(build.pickle(b")" + b"\x85" * 100_000)))
    assert isinstance(read_pth(path)["model"], tuple)
    # {"args": Namespace whose state is itself}
    loop = b"cargparse\nNamespace\n)\x81q\x00h\x00b"
    path.write_bytes(build.zip(build.pickle(loop)))
    assert repr(read_pth(path)) == "{'model': <Stub argparse Namespace>}"


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((1 << 38,), (0,), 0),
        ((1 << 20, 1 << 20), (0, 0), 0),
        ((5,), (1,), 0),
        ((2,), (4,), 0),
        ((4,), (1,), 1),
        ((1,), (1,), 1 << 40),
        ((4,), (-1,), 3),
        ((-1,), (1,), 0),
        ((1,), (1,), -1),
        ((2, 2), (1,), 0),
        ((1,) * 17, (1,) * 17, 0),
        ((1 << 70,), (1,), 0),
        ((0, 1 << 47, 1 << 47), (1, 1, 1), 0),
    ],
)
def test_tensors_beyond_their_storage_are_refused(tmp_path, build, size, stride, offset):
    tensor = build.tensor(count=4, size=size, stride=stride, offset=offset)
    message = refused(tmp_path, build.zip(build.pickle(tensor), {"0": bytes(16)}))
    assert "a tensor" in message or "an empty tensor" in message


def test_storages_must_be_what_is_declared(tmp_path, build):
    tensor = build.pickle(build.tensor(count=4, size=(4,), stride=(1,)))
    assert "missing from the archive" in refused(tmp_path, build.zip(tensor))
    assert "not what is declared" in refused(tmp_path, build.zip(tensor, {"0": bytes(12)}))
    escape = build.pickle(build.tensor(key="../data.pkl", count=4, size=(4,), stride=(1,)))
    assert "missing from the archive" in refused(tmp_path, build.zip(escape))


def test_bad_archives_are_refused(tmp_path, build):
    good = build.pickle(build.tensor(count=4, size=(4,), stride=(1,)))
    deflated = build.zip(good, {"0": bytes(16)}, compression=zipfile.ZIP_DEFLATED)
    assert "is compressed" in refused(tmp_path, deflated)
    assert "unsafe name" in refused(tmp_path, build.zip(good, {"../../0": bytes(16)}))
    assert "two data.pkl" in refused(tmp_path, build.zip(good, {"x/data.pkl": b""}))
    assert "a TorchScript program" in refused(
        tmp_path, build.zip(good).replace(b"archive/byteorder", b"archive/code/x.py")
    )
    big_endian = build.zip(good, byteorder=b"big")
    assert "byte order b'big'" in refused(tmp_path, big_endian)
    assert "without data.pkl" in refused(
        tmp_path, build.zip(good).replace(b"data.pkl", b"info.pkl")
    )


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("damaged") / "x.pth"


def assert_refused_or_read(path, data):
    path.write_bytes(data)
    # It reads as read_pth does, and then maps the names.
    said = refusal(lambda: load_published(path), CheckpointError)
    assert not said or path.name in said


def damage_file(seed, path):
    rng = random.Random(seed)
    file = rng.choice(("values.pth", "painter.pth", "legacy.pth"))
    assert_refused_or_read(path, change_bytes((GOLDEN / file).read_bytes(), rng))


def damage_pickle(seed, path, build):
    """Damage the pickle of a sound archive, which its checksum would tell."""
    rng = random.Random(seed)
    file = rng.choice(("values.pth", "painter.pth"))
    with zipfile.ZipFile(GOLDEN / file) as archive:
        folder = file.removesuffix(".pth")
        pickle = archive.read(f"{folder}/data.pkl")
        storages = {
            name.rpartition("/")[2]: archive.read(name)
            for name in archive.namelist()
            if f"{folder}/data/" in name
        }
    assert_refused_or_read(path, build.zip(change_bytes(pickle, rng), storages))


FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(SEEDS)
@FUZZ
def test_damaged_files_are_refused_or_read(scratch, seed):
    damage_file(seed, scratch)


@given(SEEDS)
@FUZZ
def test_damaged_pickles_in_sound_archives_are_refused_or_read(scratch, build, seed):
    damage_pickle(seed, scratch, build)


@pytest.mark.slow
def test_many_damaged_files_and_pickles_are_refused_or_read(scratch, build):
    for seed in range(5_000):  # 10,000 in all
        damage_file(seed, scratch)
        damage_pickle(seed, scratch, build)


@given(data=st.binary(max_size=200))
@FUZZ
def test_random_pickles_are_refused_or_read(scratch, build, data):
    assert_refused_or_read(scratch, build.zip(b"\x80\x02" + data + b"."))
