"""What SAM's relatives have in the place of SAM's parts, or beside them, under their names.

HQ-SAM has two dialects like SAM: its authors' (SysCV/sam-hq) and Hugging Face's (transformers 5.23,
models/sam_hq). MobileSAM's names are those of ChaoningZhang/MobileSAM, EfficientSAM's those of
yformer/EfficientSAM. Letters of the shapes are those of `sam_names.py`, and

    n rows of EfficientSAM's table of positions, e half the width of a TinyViT's first stage, wN the
    width of stage N (the last one's is d), hN its heads, vN the cells of its windows
"""

from collections.abc import Sequence

from seggpt.weights.names import Dialect, Layout, Name, Row, spell_rows
from seggpt.weights.sam.names import NECK, attention_rows, head_rows

# The four arrays of a batch norm, which `sam_family.py` puts into the convolution before it.
NORM_PARTS = {
    "norm_scale": "weight",
    "norm_bias": "bias",
    "norm_mean": "running_mean",
    "norm_spread": "running_var",
}
HQ_TOKENS: dict[Dialect, str] = {
    "authors": "mask_decoder.hf_token.weight",
    "huggingface": "mask_decoder.hq_token.weight",
}
TINY_STEM = "image_encoder.patch_embed.seq."
TINY_STAGES = "image_encoder.layers."
TINY_UNUSED = tuple(
    f"image_encoder.{layer}.{array}"
    for layer in ("norm_head", "head")
    for array in ("weight", "bias")
)
EFFICIENT_MARK = "prompt_encoder.bbox_top_left_embeddings.weight"
_C = "mask_decoder."
_MASKS, _LAYERS = 4, 2  # of every mask decoder
_OneDialect = tuple[str, str, Layout, str]  # ours, theirs, layout, torch's shape


def hq_name_table(*, dialect: Dialect, early: str) -> list[Name]:
    """List what an HQ-SAM has beside a SAM; `early` is the letter of the early features' width."""
    authors, huggingface = HQ_TOKENS["authors"], HQ_TOKENS["huggingface"]
    token: Row = (f"{_C}hq_token", authors, huggingface, "token", "1 8*z")
    rows = [token]
    rows += _finer("fine_early", "compress_vit_feat", "compress_vit", shape=(early, "8*z"))
    rows += _finer("fine_last", "embedding_encoder", "encoder", shape=("8*z", "2*z"))
    theirs = f"{_C}embedding_maskfeature."
    rows.extend(
        (
            (f"{_C}hq_conv1", f"{theirs}0", f"{_C}mask_conv1", "conv", "2*z z 3 3"),
            (f"{_C}hq_norm", f"{theirs}1", f"{_C}mask_norm", "norm", "2*z"),
            (f"{_C}hq_conv2", f"{theirs}3", f"{_C}mask_conv2", "conv", "z 2*z 3 3"),
        )
    )
    rows += head_rows(f"{_C}hq_head", f"{_C}hf_mlp", "z", huggingface_head=f"{_C}hq_mask_mlp")
    return spell_rows(tuple(rows), dialect)


def _finer(ours: str, authors: str, huggingface: str, *, shape: tuple[str, str]) -> list[Row]:
    inputs, hidden = shape
    authors, huggingface = f"{_C}{authors}.", f"{_C}{huggingface}_"
    return [
        (f"{ours}.up1", f"{authors}0", f"{huggingface}conv1", "upscale", f"{inputs} {hidden} 2 2"),
        (f"{ours}.norm", f"{authors}1", f"{huggingface}norm", "norm", hidden),
        (f"{ours}.up2", f"{authors}3", f"{huggingface}conv2", "upscale", f"{hidden} z 2 2"),
    ]


def stage_widths(stages: int) -> list[str]:
    """Return the width of every stage of a TinyViT, in letters."""
    return ["2*e", *(f"w{index}" for index in range(1, stages - 1)), "d"]


def tiny_vit_name_table(depths: Sequence[int]) -> list[Name]:
    """List every array of a TinyViT with so many blocks in its stages."""
    names = _convolution("vit.stem1", f"{TINY_STEM}0", "conv", "e 3 3 3")
    names += _convolution("vit.stem2", f"{TINY_STEM}2", "conv", "2*e e 3 3")
    widths = stage_widths(len(depths))
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        for block in range(depth):
            ours = f"vit.stages.{stage}.{block}."
            theirs = f"{TINY_STAGES}{stage}.blocks.{block}."
            if stage:
                names += _block(ours, theirs, width=width, stage=stage)
            else:
                names += _bottleneck(ours, theirs, ("2*e", "8*e", "8*e", "2*e"))
        if stage + 1 < len(depths):
            after = widths[stage + 1]
            theirs = f"{TINY_STAGES}{stage}.downsample."
            names += _bottleneck(f"vit.merges.{stage}.", theirs, (width, after, after, after))
    return names


def _convolution(ours: str, theirs: str, layout: Layout, shape: str) -> list[Name]:
    """Return a convolution without a bias, and the batch norm after it."""
    kernel = Name(ours=f"{ours}.kernel", theirs=f"{theirs}.c.weight", shape=shape, layout=layout)
    width = shape.split()[0]
    return [kernel] + [
        Name(ours=f"{ours}.{part}", theirs=f"{theirs}.bn.{array}", shape=width, layout="table")
        for part, array in NORM_PARTS.items()
    ]


def _bottleneck(ours: str, theirs: str, widths: tuple[str, str, str, str]) -> list[Name]:
    """Return three convolutions, the one between of each channel by itself."""
    first, second, third, fourth = widths
    return [
        *_convolution(f"{ours}conv1", f"{theirs}conv1", "pointwise", f"{second} {first} 1 1"),
        *_convolution(f"{ours}conv2", f"{theirs}conv2", "conv", f"{third} 1 3 3"),
        *_convolution(f"{ours}conv3", f"{theirs}conv3", "pointwise", f"{fourth} {third} 1 1"),
    ]


def _block(ours: str, theirs: str, *, width: str, stage: int) -> list[Name]:
    rows: tuple[_OneDialect, ...] = (
        ("attn.norm", "attn.norm", "norm", width),
        ("attn.qkv", "attn.qkv", "linear", f"3*{width} {width}"),
        ("attn.proj", "attn.proj", "linear", f"{width} {width}"),
        ("attn.biases", "attn.attention_biases", "table", f"h{stage} v{stage}"),
        ("norm", "mlp.norm", "norm", width),
        ("fc1", "mlp.fc1", "linear", f"4*{width} {width}"),
        ("fc2", "mlp.fc2", "linear", f"{width} 4*{width}"),
    )
    names = _spell(rows, ours, theirs)
    return names + _convolution(f"{ours}local", f"{theirs}local_conv", "conv", f"{width} 1 3 3")


def efficient_name_table(depth: int) -> list[Name]:
    """List every array of an EfficientSAM."""
    encoder: tuple[_OneDialect, ...] = (
        ("vit.patch_embed", "image_encoder.patch_embed.proj", "patch", "d 3 p p"),
        ("vit.pos_embed", "image_encoder.pos_embed", "position", "1 n d"),
    )
    names = _spell(encoder)
    block: tuple[_OneDialect, ...] = (
        ("norm1", "norm1", "norm", "d"),
        ("attn.qkv", "attn.qkv", "linear", "3*d d"),
        ("attn.proj", "attn.proj", "linear", "d d"),
        ("norm2", "norm2", "norm", "d"),
        ("mlp.fc1", "mlp.fc1", "linear", "m d"),
        ("mlp.fc2", "mlp.fc2", "linear", "d m"),
    )
    for index in range(depth):
        names += _spell(block, f"vit.blocks.{index}.", f"image_encoder.blocks.{index}.")
    names += spell_rows(NECK, "authors")
    prompts: tuple[_OneDialect, ...] = (
        ("frequencies", "pe_layer.positional_encoding_gaussian_matrix", "table", "2 4*z"),
        ("not_a_point", "invalid_points.weight", "token", "1 8*z"),
        ("foreground", "point_embeddings.weight", "token", "1 8*z"),
        ("first_corner", "bbox_top_left_embeddings.weight", "token", "1 8*z"),
        ("second_corner", "bbox_bottom_right_embeddings.weight", "token", "1 8*z"),
    )
    names += _spell(prompts, "prompt_encoder.", "prompt_encoder.")
    return names + _efficient_decoder()


def _efficient_decoder() -> list[Name]:
    shared: list[Row] = []
    own: list[_OneDialect] = [
        ("iou_token", "iou_token.weight", "token", "1 8*z"),
        ("mask_tokens", "mask_tokens.weight", "table", f"{_MASKS} 8*z"),
        ("transformer.final_norm", "transformer.norm_final_attn", "norm", "8*z"),
    ]
    for index in range(_LAYERS):
        layer = f"transformer.layers.{index}."
        own.extend(
            (
                (f"{layer}mlp.layers.0", f"{layer}mlp.layers.0.0", "linear", "u 8*z"),
                (f"{layer}mlp.layers.1", f"{layer}mlp.fc", "linear", "8*z u"),
            )
        )
        norms = [f"{layer}norm{number}" for number in range(1, 5)]
        own.extend((norm, norm, "norm", "8*z") for norm in norms)
        base = _C + layer
        shared += attention_rows(f"{base}self_attn", f"{base}self_attn", "8*z")
        shared += attention_rows(f"{base}to_image", f"{base}cross_attn_token_to_image", "4*z")
        shared += attention_rows(f"{base}to_tokens", f"{base}cross_attn_image_to_token", "4*z")
    base = f"{_C}transformer."
    shared += attention_rows(f"{base}final_attn", f"{base}final_attn_token_to_image", "4*z")
    up = "final_output_upscaling_layers."
    own.extend(
        (
            ("up1", f"{up}0.0", "upscale", "8*z 2*z 2 2"),
            ("up_norm", f"{up}0.1", "norm", "2*z"),
            ("up2", f"{up}1.0", "upscale", "2*z z 2 2"),
        )
    )
    own += _efficient_head("iou_head", "iou_prediction_head", str(_MASKS))
    for index in range(_MASKS):
        own += _efficient_head(f"mask_heads.{index}", f"output_hypernetworks_mlps.{index}", "z")
    return spell_rows(tuple(shared), "authors") + _spell(tuple(own), _C, _C)


def _efficient_head(ours: str, theirs: str, outputs: str) -> list[_OneDialect]:
    return [
        (f"{ours}.layers.0", f"{theirs}.layers.0.0", "linear", "8*z 8*z"),
        (f"{ours}.layers.1", f"{theirs}.layers.1.0", "linear", "8*z 8*z"),
        (f"{ours}.layers.2", f"{theirs}.fc", "linear", f"{outputs} 8*z"),
    ]


def _spell(
    rows: tuple[_OneDialect, ...], our_prefix: str = "", their_prefix: str = ""
) -> list[Name]:
    """List the arrays of some rows of a model that has one dialect."""
    twice: list[Row] = []
    for ours, theirs, layout, shape in rows:
        twice.append((ours, theirs, theirs, layout, shape))
    return spell_rows(tuple(twice), "authors", our_prefix, their_prefix)
