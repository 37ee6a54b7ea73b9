"""Every part of DINOv2 and DINOv3 under three names: ours, its authors' and Hugging Face's.

The authors' names are those of facebookresearch/dinov2 and dinov3, Hugging Face's those of
transformers 5.24, models/dinov2, dinov2_with_registers and dinov3_vit, as it writes files. Letters
of the shapes:

    d width, p patch size, n rows of the position table (the class token's first), r registers,
    m width of the giant's gated MLP, f periods of rotary positions
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from seggpt.weights.names import Dialect, Name, Row, spell_rows

EncoderFamily = Literal["dinov2", "dinov3"]


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """Whose names a file has, of which family, and what kind of encoder they say it is."""

    family: EncoderFamily
    dialect: Dialect
    registers: bool
    gated: bool  # the MLPs

    @property
    def is_rotary(self) -> bool:
        """Whether there is no table of positions."""
        return self.family == "dinov3"


_H = "embeddings."
CLASS_TOKEN: dict[Dialect, str] = {"authors": "cls_token", "huggingface": _H + "cls_token"}
POSITIONS: dict[Dialect, str] = {"authors": "pos_embed", "huggingface": _H + "position_embeddings"}
PERIODS = "rope_embed.periods"
_STORAGE = "storage_tokens"
# One of these stands in every encoder, after what a network puts before its names.
ANCHORS: dict[Dialect, set[str]] = {
    "authors": {CLASS_TOKEN["authors"], POSITIONS["authors"], _STORAGE},
    "huggingface": {CLASS_TOKEN["huggingface"], POSITIONS["huggingface"], _H + "register_tokens"},
}
_BLOCKS: dict[Dialect, tuple[str, ...]] = {
    "authors": ("blocks.",),
    # The second is what transformers calls them in memory, the last DINOv2's.
    "huggingface": ("layer.", "model.layer.", "encoder.layer."),
}
# Known and not used: what stands in for hidden patches, norms after the last block, a head.
UNUSED = {
    *("mask_token", "norm.weight", "norm.bias", "local_cls_norm.weight", "local_cls_norm.bias"),
    *(_H + "mask_token", "layernorm.weight", "layernorm.bias"),
    *("classifier.weight", "classifier.bias"),
}
_GATES = (".mlp.w12.weight", ".mlp.weights_in.weight", ".mlp.w1.weight", ".mlp.gate_proj.weight")

_CLASS: Row = (
    *("class_token", CLASS_TOKEN["authors"], CLASS_TOKEN["huggingface"], "token"),
    "1 1 d",
)
_EMBEDDING: dict[EncoderFamily, tuple[Row, ...]] = {
    "dinov2": (
        (
            *("vit.patch_embed", "patch_embed.proj", _H + "patch_embeddings.projection", "patch"),
            "d 3 p p",
        ),
        ("vit.pos_embed", POSITIONS["authors"], POSITIONS["huggingface"], "position", "1 n d"),
        _CLASS,
    ),
    "dinov3": (
        ("vit.patch_embed", "patch_embed.proj", _H + "patch_embeddings", "patch", "d 3 p p"),
        _CLASS,
    ),
}
_REGISTERS: dict[EncoderFamily, Row] = {
    "dinov2": ("registers", "register_tokens", _H + "register_tokens", "lattice", "1 r d"),
    "dinov3": ("registers", _STORAGE, _H + "register_tokens", "lattice", "1 r d"),
}
_PERIODS: Row = ("periods", PERIODS, "", "token", "f")
_NORMS: tuple[Row, ...] = (
    ("norm1", "norm1", "norm1", "norm", "d"),
    ("norm2", "norm2", "norm2", "norm", "d"),
    ("scale1", "ls1.gamma", "layer_scale1.lambda1", "token", "d"),
    ("scale2", "ls2.gamma", "layer_scale2.lambda1", "token", "d"),
)
_QKV: Row = ("attn.qkv", "attn.qkv", "", "linear", "3*d d")
_ATTENTION: dict[tuple[EncoderFamily, Dialect], tuple[Row, ...]] = {
    ("dinov2", "authors"): (_QKV, ("attn.proj", "attn.proj", "", "linear", "d d")),
    ("dinov2", "huggingface"): (
        ("attn.query", "", "attention.attention.query", "linear", "d d"),
        ("attn.key", "", "attention.attention.key", "linear", "d d"),
        ("attn.value", "", "attention.attention.value", "linear", "d d"),
        ("attn.proj", "", "attention.output.dense", "linear", "d d"),
    ),
    ("dinov3", "authors"): (
        _QKV,
        ("attn.bias_mask", "attn.qkv.bias_mask", "", "token", "3*d"),
        ("attn.proj", "attn.proj", "", "linear", "d d"),
    ),
    ("dinov3", "huggingface"): (
        ("attn.query", "", "attention.q_proj", "linear", "d d"),
        ("attn.key.kernel", "", "attention.k_proj.weight", "linear", "d d"),  # no bias
        ("attn.value", "", "attention.v_proj", "linear", "d d"),
        ("attn.proj", "", "attention.o_proj", "linear", "d d"),
    ),
}
_MLP: dict[tuple[EncoderFamily, bool], tuple[Row, ...]] = {
    ("dinov2", False): (
        ("mlp.fc1", "mlp.fc1", "mlp.fc1", "linear", "4*d d"),
        ("mlp.fc2", "mlp.fc2", "mlp.fc2", "linear", "d 4*d"),
    ),
    ("dinov2", True): (
        ("mlp.fc1", "mlp.w12", "mlp.weights_in", "linear", "2*m d"),
        ("mlp.fc2", "mlp.w3", "mlp.weights_out", "linear", "d m"),
    ),
    ("dinov3", False): (
        ("mlp.fc1", "mlp.fc1", "mlp.up_proj", "linear", "4*d d"),
        ("mlp.fc2", "mlp.fc2", "mlp.down_proj", "linear", "d 4*d"),
    ),
    ("dinov3", True): (
        ("mlp.gate", "mlp.w1", "mlp.gate_proj", "linear", "4*d d"),
        ("mlp.passed", "mlp.w2", "mlp.up_proj", "linear", "4*d d"),
        ("mlp.fc2", "mlp.w3", "mlp.down_proj", "linear", "d 4*d"),
    ),
}


def recognise_spelling(names: Collection[str], dialect: Dialect) -> Spelling:
    """Return what names, without what a network puts before them, say of an encoder."""
    marks = {_STORAGE, PERIODS, f"{_H}patch_embeddings.weight"}
    is_third = bool(marks & set(names)) or any(
        name.startswith(("layer.", "model.layer.")) for name in names
    )
    family: EncoderFamily = "dinov3" if is_third else "dinov2"
    tokens = _REGISTERS[family][1 if dialect == "authors" else 2]
    return Spelling(
        family=family,
        dialect=dialect,
        registers=is_third or tokens in names,
        gated=any(name.endswith(_GATES) for name in names),
    )


def find_blocks(names: Collection[str], dialect: Dialect) -> str:
    """Return what stands before the numbers of blocks."""
    *others, last = _BLOCKS[dialect]
    return next((b for b in others if any(name.startswith(b) for name in names)), last)


def encoder_name_table(spelling: Spelling, *, blocks: list[str]) -> list[Name]:
    """List every array of an encoder; `blocks` is what its blocks' names start with in the file.

    What a file has in parts stands by itself: query, key and value, the two halves of a gated MLP,
    class token and registers.
    """
    family, dialect = spelling.family, spelling.dialect
    rows = _EMBEDDING[family] + ((_REGISTERS[family],) if spelling.registers else ())
    if family == "dinov3" and dialect == "authors":
        rows += (_PERIODS,)
    names = spell_rows(rows, dialect)
    own = _NORMS + _ATTENTION[family, dialect] + _MLP[family, spelling.gated]
    for index, theirs in enumerate(blocks):
        names += spell_rows(own, dialect, f"vit.blocks.{index}.", theirs)
    return names
