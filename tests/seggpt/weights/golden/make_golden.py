"""Make the `.pth` files of this folder: python make_golden.py (torch 2.13.0, numpy 2.4).

`values.pth` holds every type that the reader knows, `painter.pth` a small Painter checkpoint as its
authors saved theirs; the others are formats that the reader refuses. The values are counted up, so
that the tests can tell them without torch.
"""

import argparse
import collections
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports] (no dependency of ours)

FOLDER = Path(__file__).parent
DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"),
    *("bool", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"),
)
WIDTH, PATCH, SIDE, HEAD, DEPTH, DECODER = 8, 4, 3, 4, 4, 2


def make_values() -> dict:
    """Return a tree of tensors of all types and views, and what is not a tensor."""
    counted = torch.arange(24, dtype=torch.float32)
    state = collections.OrderedDict(
        (name, torch.arange(6).to(getattr(torch, name)).reshape(2, 3)) for name in DTYPES
    )
    views = {
        "transposed": counted.reshape(4, 6).T,
        "tail": counted[20:],
        "strided": counted[1::5],
        "broadcast": counted[:3].expand(2, 3),
        "empty": torch.empty(0, 3),
        "scalar": torch.tensor(7.0),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    options = argparse.Namespace(lr=1e-3, name="run", betas=(0.9, 0.999))
    numbers = {"epoch": 3, "big": 2**70, "negative": -5, "loss": 0.25, "none": None, "yes": True}
    module = torch.nn.Linear(2, 1)
    torch.nn.init.ones_(module.weight)
    torch.nn.init.zeros_(module.bias)
    return {
        "model": state,
        "views": views,
        "module": module.state_dict(),
        "args": options,
        "numbers": numbers,
        "numpy": np.float64(2.0),
        "size": torch.Size([1, 2]),
        "dtype": torch.float32,
        "device": torch.device("cpu"),
        "list": [1, "two", (3,)],
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1}]},
    }


def make_painter() -> dict:
    """Return a Painter of 12 x 12 pixels under its authors' names."""
    shapes = {
        "mask_token": (1, 1, 1, WIDTH),
        "segment_token_x": (1, 1, 1, WIDTH),
        "segment_token_y": (1, 1, 1, WIDTH),
        "pos_embed": (1, 5, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (WIDTH,),
    }
    for i in range(DEPTH):
        shapes |= {
            f"blocks.{i}.norm1.weight": (WIDTH,),
            f"blocks.{i}.norm1.bias": (WIDTH,),
            f"blocks.{i}.attn.rel_pos_h": (4 * SIDE - 1, HEAD),
            f"blocks.{i}.attn.rel_pos_w": (2 * SIDE - 1, HEAD),
            f"blocks.{i}.attn.qkv.weight": (3 * WIDTH, WIDTH),
            f"blocks.{i}.attn.qkv.bias": (3 * WIDTH,),
            f"blocks.{i}.attn.proj.weight": (WIDTH, WIDTH),
            f"blocks.{i}.attn.proj.bias": (WIDTH,),
            f"blocks.{i}.norm2.weight": (WIDTH,),
            f"blocks.{i}.norm2.bias": (WIDTH,),
            f"blocks.{i}.mlp.fc1.weight": (2 * WIDTH, WIDTH),
            f"blocks.{i}.mlp.fc1.bias": (2 * WIDTH,),
            f"blocks.{i}.mlp.fc2.weight": (WIDTH, 2 * WIDTH),
            f"blocks.{i}.mlp.fc2.bias": (WIDTH,),
        }
    shapes |= {
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "decoder_embed.weight": (PATCH * PATCH * DECODER, 4 * WIDTH),
        "decoder_embed.bias": (PATCH * PATCH * DECODER,),
        "decoder_pred.0.weight": (DECODER, DECODER, 3, 3),
        "decoder_pred.0.bias": (DECODER,),
        "decoder_pred.1.weight": (DECODER,),
        "decoder_pred.1.bias": (DECODER,),
        "decoder_pred.3.weight": (3, DECODER, 1, 1),
        "decoder_pred.3.bias": (3,),
    }
    state, start = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        # bfloat16 keeps the file small; 8 bits of significand hold the numbers below 256
        counted = torch.arange(start, start + count) % 251
        state[name] = counted.to(torch.bfloat16).reshape(shape)
        start += count
    return {"model": state, "epoch": 14, "args": argparse.Namespace(lr=1e-3)}


def main() -> None:
    """Write all files."""
    torch.save(make_values(), FOLDER / "values.pth")
    torch.save(make_painter(), FOLDER / "painter.pth")
    small = {"model": {"weight": torch.ones(2)}}
    torch.save(small, FOLDER / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.jit.save(torch.jit.script(torch.nn.Identity()), FOLDER / "script.pt")


if __name__ == "__main__":
    main()
