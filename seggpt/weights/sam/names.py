"""Every part of SAM under three names: ours, its authors' and Hugging Face's.

The authors' names are those of facebookresearch/segment-anything, Hugging Face's those of
transformers 5.23, models/sam. Letters of the shapes, whose values `sam_shapes.py` finds:

    d width, p patch size, g patches along a side, k width of a head, m width of the MLP, rN rows of
    the relative tables of block N, z an eighth of the prompts' width, u width of the mask decoder's
    MLPs, i a quarter of the mask reader's width
"""

from seggpt.weights.names import Dialect, Layout, Name, Row, spell_rows

BLOCK_PREFIXES: dict[Dialect, str] = {
    "authors": "image_encoder.blocks.",
    "huggingface": "vision_encoder.layers.",
}
# Hugging Face keeps the Fourier matrix twice; some files hold both, some one of them.
TWINS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)
_LAYERS = 2  # of the mask decoder
_MASKS = 4


def _same(ours: str, theirs: str, layout: Layout, shape: str) -> Row:
    """Return the row of what the authors and Hugging Face call alike."""
    return ours, theirs, theirs, layout, shape


_A, _H = "image_encoder.", "vision_encoder."
_ENCODER: tuple[Row, ...] = (
    (
        "vit.patch_embed",
        _A + "patch_embed.proj",
        _H + "patch_embed.projection",
        "patch",
        "d 3 p p",
    ),
    ("vit.pos_embed", _A + "pos_embed", _H + "pos_embed", "lattice", "1 g g d"),
)
_BLOCK: tuple[Row, ...] = (
    ("norm1", "norm1", "layer_norm1", "norm", "d"),
    ("attn.qkv", "attn.qkv", "attn.qkv", "linear", "3*d d"),
    ("attn.proj", "attn.proj", "attn.proj", "linear", "d d"),
    ("norm2", "norm2", "layer_norm2", "norm", "d"),
    ("mlp.fc1", "mlp.lin1", "mlp.lin1", "linear", "m d"),
    ("mlp.fc2", "mlp.lin2", "mlp.lin2", "linear", "d m"),
)
NECK: tuple[Row, ...] = (
    (
        "neck.conv1.kernel",
        _A + "neck.0.weight",
        _H + "neck.conv1.weight",
        "pointwise",
        "8*z d 1 1",
    ),
    ("neck.norm1", _A + "neck.1", _H + "neck.layer_norm1", "norm", "8*z"),
    (
        "neck.conv2.kernel",
        _A + "neck.2.weight",
        _H + "neck.conv2.weight",
        "conv",
        "8*z 8*z 3 3",
    ),
    ("neck.norm2", _A + "neck.3", _H + "neck.layer_norm2", "norm", "8*z"),
)
_P = "prompt_encoder."
_PROMPTS: tuple[Row, ...] = (
    (
        _P + "frequencies",
        _P + "pe_layer.positional_encoding_gaussian_matrix",
        TWINS[0],
        "table",
        "2 4*z",
    ),
    *(
        (
            _P + name,
            f"{_P}point_embeddings.{index}.weight",
            f"{_P}point_embed.{index}.weight",
            "token",
            "1 8*z",
        )
        for index, name in enumerate(("background", "foreground", "first_corner", "second_corner"))
    ),
    _same(_P + "not_a_point", _P + "not_a_point_embed.weight", "token", "1 8*z"),
    _same(_P + "no_mask", _P + "no_mask_embed.weight", "token", "1 8*z"),
)
_M = _P + "mask_embed."
_D = _P + "mask_downscaling."
_MASK_READER: tuple[Row, ...] = (
    (_M + "down1", _D + "0", _M + "conv1", "patch", "i 1 2 2"),
    (_M + "norm1", _D + "1", _M + "layer_norm1", "norm", "i"),
    (_M + "down2", _D + "3", _M + "conv2", "patch", "4*i i 2 2"),
    (_M + "norm2", _D + "4", _M + "layer_norm2", "norm", "4*i"),
    (_M + "proj", _D + "6", _M + "conv3", "pointwise", "8*z 4*i 1 1"),
)
_C = "mask_decoder."
_T = _C + "transformer."
_TOKENS: tuple[Row, ...] = (
    _same(_C + "iou_token", _C + "iou_token.weight", "token", "1 8*z"),
    _same(_C + "mask_tokens", _C + "mask_tokens.weight", "table", f"{_MASKS} 8*z"),
)
_UPSCALING: tuple[Row, ...] = (
    (_C + "up1", _C + "output_upscaling.0", _C + "upscale_conv1", "upscale", "8*z 2*z 2 2"),
    (_C + "up_norm", _C + "output_upscaling.1", _C + "upscale_layer_norm", "norm", "2*z"),
    (_C + "up2", _C + "output_upscaling.3", _C + "upscale_conv2", "upscale", "2*z z 2 2"),
)


def sam_name_table(*, dialect: Dialect, depth: int, twin: str = TWINS[0]) -> list[Name]:
    """List every array of a SAM; `twin` is the one of `TWINS` that the file holds."""
    names = spell_rows(_ENCODER, dialect)
    for index in range(depth):
        ours, theirs = f"vit.blocks.{index}.", f"{BLOCK_PREFIXES[dialect]}{index}."
        tables = tuple(
            _same(f"attn.{name}", f"attn.{name}", "table", f"r{index} k")
            for name in ("rel_pos_h", "rel_pos_w")
        )
        names += spell_rows(_BLOCK + tables, dialect, ours, theirs)
    return names + heads_name_table(dialect=dialect, twin=twin)


def heads_name_table(*, dialect: Dialect, twin: str = TWINS[0]) -> list[Name]:
    """List every array behind the encoder of a SAM, which its relatives have, too."""
    rows = NECK + _PROMPTS + _MASK_READER + _TOKENS + _decoder_rows() + _UPSCALING
    return [
        Name(ours=name.ours, theirs=twin, shape=name.shape, layout=name.layout)
        if name.theirs == TWINS[0]
        else name
        for name in spell_rows(rows, dialect)
    ]


def _decoder_rows() -> tuple[Row, ...]:
    """Return the rows of the two-way transformer and of the MLPs behind it."""
    rows: list[Row] = []
    for index in range(_LAYERS):
        base = f"{_T}layers.{index}."
        attentions = {
            "self_attn": ("self_attn", "8*z"),
            "to_image": ("cross_attn_token_to_image", "4*z"),
            "to_tokens": ("cross_attn_image_to_token", "4*z"),
        }
        for ours, (theirs, inner) in attentions.items():
            rows += attention_rows(base + ours, base + theirs, inner)
        for number in range(1, 5):
            norm = f"{base}norm{number}"
            rows.append((norm, norm, f"{base}layer_norm{number}", "norm", "8*z"))
        rows += [
            _same(f"{base}mlp.layers.0", f"{base}mlp.lin1", "linear", "u 8*z"),
            _same(f"{base}mlp.layers.1", f"{base}mlp.lin2", "linear", "8*z u"),
        ]
    rows += attention_rows(f"{_T}final_attn", f"{_T}final_attn_token_to_image", "4*z")
    theirs = f"{_T}norm_final_attn", f"{_T}layer_norm_final_attn"
    rows.append((f"{_T}final_norm", theirs[0], theirs[1], "norm", "8*z"))
    for index in range(_MASKS):
        ours, theirs = f"{_C}mask_heads.{index}", f"{_C}output_hypernetworks_mlps.{index}"
        rows += head_rows(ours, theirs, "z")
    return (*rows, *head_rows(f"{_C}iou_head", f"{_C}iou_prediction_head", str(_MASKS)))


def attention_rows(ours: str, theirs: str, inner: str) -> list[Row]:
    """Return an attention of some inner width."""
    shapes = {"q": f"{inner} 8*z", "k": f"{inner} 8*z", "v": f"{inner} 8*z", "out": f"8*z {inner}"}
    return [
        _same(f"{ours}.{part}", f"{theirs}.{part}_proj", "linear", shape)
        for part, shape in shapes.items()
    ]


def head_rows(
    ours: str, theirs: str, outputs: str, *, huggingface_head: str | None = None
) -> list[Row]:
    """Return a head of three layers, which Hugging Face calls in, between and out."""
    shapes = ("8*z 8*z", "8*z 8*z", f"{outputs} 8*z")
    huggingface = ("proj_in", "layers.0", "proj_out")
    other = huggingface_head or theirs
    return [
        (f"{ours}.layers.{index}", f"{theirs}.layers.{index}", f"{other}.{name}", "linear", shape)
        for index, (name, shape) in enumerate(zip(huggingface, shapes, strict=True))
    ]
