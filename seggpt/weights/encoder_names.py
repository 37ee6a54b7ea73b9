"""Every part of DINOv2 under three names: ours, its authors' and Hugging Face's.

The authors' names are those of facebookresearch/dinov2, Hugging Face's those of transformers 5.23,
models/dinov2 and models/dinov2_with_registers. Letters of the shapes:

    d width, p patch size, n rows of the position table (the class token's first), r registers
"""

from seggpt.weights.names import Dialect, Name, Row, spell_rows

_H = "embeddings."
CLASS_TOKEN: dict[Dialect, str] = {"authors": "cls_token", "huggingface": _H + "cls_token"}
POSITIONS: dict[Dialect, str] = {"authors": "pos_embed", "huggingface": _H + "position_embeddings"}
BLOCKS: dict[Dialect, str] = {"authors": "blocks.", "huggingface": "encoder.layer."}
# Known and not used: what stands in for hidden patches, the norm after the last block, a head.
UNUSED = {
    *("mask_token", "norm.weight", "norm.bias"),
    *(_H + "mask_token", "layernorm.weight", "layernorm.bias"),
    *("classifier.weight", "classifier.bias"),
}
GATED = (".mlp.w12.weight", ".mlp.weights_in.weight")  # a SwiGLU instead of the MLP

_EMBEDDING: tuple[Row, ...] = (
    ("vit.patch_embed", "patch_embed.proj", _H + "patch_embeddings.projection", "patch", "d 3 p p"),
    ("vit.pos_embed", POSITIONS["authors"], POSITIONS["huggingface"], "position", "1 n d"),
    ("class_token", CLASS_TOKEN["authors"], CLASS_TOKEN["huggingface"], "token", "1 1 d"),
)
REGISTERS: Row = ("registers", "register_tokens", _H + "register_tokens", "lattice", "1 r d")
_QKV: dict[Dialect, tuple[Row, ...]] = {
    "authors": (("attn.qkv", "attn.qkv", "", "linear", "3*d d"),),
    "huggingface": tuple(
        (f"attn.{part}", "", f"attention.attention.{part}", "linear", "d d")
        for part in ("query", "key", "value")
    ),
}
_BLOCK: tuple[Row, ...] = (
    ("norm1", "norm1", "norm1", "norm", "d"),
    ("attn.proj", "attn.proj", "attention.output.dense", "linear", "d d"),
    ("scale1", "ls1.gamma", "layer_scale1.lambda1", "token", "d"),
    ("norm2", "norm2", "norm2", "norm", "d"),
    ("mlp.fc1", "mlp.fc1", "mlp.fc1", "linear", "4*d d"),
    ("mlp.fc2", "mlp.fc2", "mlp.fc2", "linear", "d 4*d"),
    ("scale2", "ls2.gamma", "layer_scale2.lambda1", "token", "d"),
)


def encoder_name_table(*, dialect: Dialect, blocks: list[str], registers: bool) -> list[Name]:
    """List every array of an encoder; `blocks` are the numbers of its blocks as the file has them.

    Hugging Face's query, key and value stand by themselves, and so do class token and registers.
    """
    names = spell_rows(_EMBEDDING + ((REGISTERS,) if registers else ()), dialect)
    for index, number in enumerate(blocks):
        theirs = f"{BLOCKS[dialect]}{number}."
        names += spell_rows(_BLOCK + _QKV[dialect], dialect, f"vit.blocks.{index}.", theirs)
    return names
