"""Every part of SegGPT and Painter under three names: ours, its authors' and Hugging Face's.

The authors' names are those of baaivision/Painter, SegGPT_inference/models_seggpt.py; Hugging
Face's those of transformers 5.23, models/seggpt. Both hold torch's layouts. The shapes are theirs,
in these letters, whose values `shapes.py` finds:

    d width, p patch size, n rows of the position table, k width of a head, m width of the MLP,
    v and w rows of the vertical and the horizontal relative table, c decoder width, t taps
"""

from dataclasses import dataclass
from typing import Literal, get_args

Family = Literal["seggpt", "painter", "sam"]
Dialect = Literal["authors", "huggingface"]
# How torch's array becomes ours (`layouts.py`). These are single arrays...
Single = Literal["token", "position", "lattice", "table"]
# ... and these modules with a weight, which has the shape of the row, and a bias along its first
# dimension (along the second one for `upscale`). A row that names its weight has no bias.
Module = Literal["norm", "linear", "patch", "conv", "pointwise", "upscale"]
Layout = Literal[Single, Module]


@dataclass(frozen=True, kw_only=True)
class Name:
    """One array: our name, its name and shape in a dialect, and how it becomes ours."""

    ours: str
    theirs: str
    shape: str
    layout: Layout | Literal["bias"]


BLOCK_PREFIXES: dict[Dialect, str] = {"authors": "blocks.", "huggingface": "model.encoder.layers."}

Row = tuple[str, str, str, Layout, str]  # ours, authors', Hugging Face's, layout, torch's shape
_H = "model.embeddings."

_EMBEDDING: tuple[Row, ...] = (
    ("vit.patch_embed", "patch_embed.proj", _H + "patch_embeddings.projection", "patch", "d 3 p p"),
    ("vit.pos_embed", "pos_embed", _H + "position_embeddings", "position", "1 n d"),
    ("mask_token", "mask_token", _H + "mask_token", "token", "1 1 1 d"),
    ("segment_token_x", "segment_token_x", _H + "segment_token_input", "token", "1 1 1 d"),
    ("segment_token_y", "segment_token_y", _H + "segment_token_prompt", "token", "1 1 1 d"),
)
_TYPE_TOKENS: tuple[Row, ...] = (
    ("type_token_semantic", "type_token_cls", _H + "type_token_semantic", "token", "1 1 1 d"),
    ("type_token_instance", "type_token_ins", _H + "type_token_instance", "token", "1 1 1 d"),
)
_REL_POS: tuple[Row, ...] = (  # in every block, like those of _BLOCK
    ("attn.rel_pos_h", "attn.rel_pos_h", "attention.rel_pos_h", "table", "v k"),
    ("attn.rel_pos_w", "attn.rel_pos_w", "attention.rel_pos_w", "table", "w k"),
)
_BLOCK: tuple[Row, ...] = (
    ("norm1", "norm1", "layernorm_before", "norm", "d"),
    ("attn.qkv", "attn.qkv", "attention.qkv", "linear", "3*d d"),
    ("attn.proj", "attn.proj", "attention.proj", "linear", "d d"),
    ("norm2", "norm2", "layernorm_after", "norm", "d"),
    ("mlp.fc1", "mlp.fc1", "mlp.lin1", "linear", "m d"),
    ("mlp.fc2", "mlp.fc2", "mlp.lin2", "linear", "d m"),
)
_DECODER: tuple[Row, ...] = (
    ("norm", "norm", "model.encoder.layernorm", "norm", "d"),
    ("decoder.embed", "decoder_embed", "decoder.decoder_embed", "linear", "p*p*c t*d"),
    ("decoder.conv", "decoder_pred.0", "decoder.decoder_pred.conv", "conv", "c c 3 3"),
    ("decoder.norm", "decoder_pred.1", "decoder.decoder_pred.layernorm", "norm", "c"),
    ("decoder.head", "decoder_pred.3", "decoder.decoder_pred.head", "pointwise", "3 c 1 1"),
)


def name_table(
    *, dialect: Dialect, depth: int, type_tokens: bool = True, rel_pos: bool = True
) -> list[Name]:
    """List every array of a model, in an order in which shapes explain each other."""
    names = spell_rows(_EMBEDDING + (_TYPE_TOKENS if type_tokens else ()), dialect)
    for i in range(depth):
        rows = (_REL_POS if rel_pos else ()) + _BLOCK
        names += spell_rows(rows, dialect, f"vit.blocks.{i}.", f"{BLOCK_PREFIXES[dialect]}{i}.")
    return names + spell_rows(_DECODER, dialect)


def spell_rows(
    rows: tuple[Row, ...], dialect: Dialect, our_prefix: str = "", their_prefix: str = ""
) -> list[Name]:
    """List the arrays of some rows in one dialect."""
    names: list[Name] = []
    for ours, authors, huggingface, layout, shape in rows:
        ours = our_prefix + ours
        theirs = their_prefix + (authors if dialect == "authors" else huggingface)
        if layout in get_args(Single) or theirs.endswith(".weight"):
            names.append(Name(ours=ours, theirs=theirs, shape=shape, layout=layout))
            continue
        weight = "scale" if layout == "norm" else "kernel"
        rest = (f"{theirs}.weight", f"{theirs}.bias")
        bias = shape.split()[layout == "upscale"]
        names += [
            Name(ours=f"{ours}.{weight}", theirs=rest[0], shape=shape, layout=layout),
            Name(ours=f"{ours}.bias", theirs=rest[1], shape=bias, layout="bias"),
        ]
    return names
