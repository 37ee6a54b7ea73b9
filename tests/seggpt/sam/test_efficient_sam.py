"""EfficientSAM against a plain torch reference on a state dict with its authors' names."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from seggpt.config import SAMConfig
from seggpt.prompts import make_slots
from seggpt.sam.efficient_sam import POINTS, EfficientSAM
from seggpt.sam.family import make_sam
from seggpt.weights import load_published
from seggpt.weights.graft import graft

SIZE, PATCH, GRID, SIDE = 24, 4, 6, 3  # the table of positions has 3 x 3 rows and a class token's
WIDTH, HEADS, DEPTH = 128, 2, 2
INNER, INNER_HEADS, HIDDEN = 16, 8, 24  # of the heads for prompts
rng = np.random.default_rng(3)
IMAGE = rng.normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
XY = rng.uniform(0, SIZE, (2, 3, 2)).astype(np.float32)
BOXES = rng.uniform(0, SIZE, (2, 4)).astype(np.float32)

State = dict[str, np.ndarray]


def make_state() -> State:
    """Make random weights, none of which is what a new model would have."""
    rng = np.random.default_rng(0)
    state: State = {}

    def put(name: str, *shape: int, centre: float = 0.0, size: float = 0.3) -> None:
        state[name] = (centre + size * rng.normal(size=shape)).astype(np.float32)

    def linear(name: str, inputs: int, outputs: int) -> None:
        put(f"{name}.weight", outputs, inputs, size=1.2 * inputs**-0.5)
        put(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        put(f"{name}.weight", width, centre=1)
        put(f"{name}.bias", width)

    encoder = "image_encoder."
    put(f"{encoder}patch_embed.proj.weight", WIDTH, 3, PATCH, PATCH, size=0.15)
    put(f"{encoder}patch_embed.proj.bias", WIDTH)
    put(f"{encoder}pos_embed", 1, SIDE**2 + 1, WIDTH)
    for index in range(DEPTH):
        base = f"{encoder}blocks.{index}."
        norm(f"{base}norm1", WIDTH)
        linear(f"{base}attn.qkv", WIDTH, 3 * WIDTH)
        linear(f"{base}attn.proj", WIDTH, WIDTH)
        norm(f"{base}norm2", WIDTH)
        linear(f"{base}mlp.fc1", WIDTH, 2 * WIDTH)
        linear(f"{base}mlp.fc2", 2 * WIDTH, WIDTH)
    put(f"{encoder}neck.0.weight", INNER, WIDTH, 1, 1, size=0.1)
    norm(f"{encoder}neck.1", INNER)
    put(f"{encoder}neck.2.weight", INNER, INNER, 3, 3, size=0.1)
    norm(f"{encoder}neck.3", INNER)

    prompts = "prompt_encoder."
    put(f"{prompts}pe_layer.positional_encoding_gaussian_matrix", 2, INNER // 2, size=1)
    for name in ("invalid_points", "point_embeddings"):
        put(f"{prompts}{name}.weight", 1, INNER, size=1)
    for name in ("bbox_top_left_embeddings", "bbox_bottom_right_embeddings"):
        put(f"{prompts}{name}.weight", 1, INNER, size=1)

    decoder = "mask_decoder."
    put(f"{decoder}iou_token.weight", 1, INNER, size=1)
    put(f"{decoder}mask_tokens.weight", 4, INNER, size=1)

    def attention(name: str, inner: int) -> None:
        for part in ("q", "k", "v"):
            linear(f"{name}.{part}_proj", INNER, inner)
        linear(f"{name}.out_proj", inner, INNER)

    for index in range(2):
        base = f"{decoder}transformer.layers.{index}."
        attention(f"{base}self_attn", INNER)
        for name in ("token_to_image", "image_to_token"):
            attention(f"{base}cross_attn_{name}", INNER // 2)
        for number in range(1, 5):
            norm(f"{base}norm{number}", INNER)
        linear(f"{base}mlp.layers.0.0", INNER, HIDDEN)
        linear(f"{base}mlp.fc", HIDDEN, INNER)
    attention(f"{decoder}transformer.final_attn_token_to_image", INNER // 2)
    norm(f"{decoder}transformer.norm_final_attn", INNER)
    up = f"{decoder}final_output_upscaling_layers."
    put(f"{up}0.0.weight", INNER, INNER // 4, 2, 2)
    put(f"{up}0.0.bias", INNER // 4)
    norm(f"{up}0.1", INNER // 4)
    put(f"{up}1.0.weight", INNER // 4, INNER // 8, 2, 2, size=0.6)
    put(f"{up}1.0.bias", INNER // 8)
    heads = [(f"{decoder}output_hypernetworks_mlps.{index}", INNER // 8) for index in range(4)]
    for name, outputs in [*heads, (f"{decoder}iou_prediction_head", 4)]:
        linear(f"{name}.layers.0.0", INNER, INNER)
        linear(f"{name}.layers.1.0", INNER, INNER)
        linear(f"{name}.fc", INNER, outputs)
    return state


class Reference:
    """The model in torch, one picture and one prompt at a time."""

    def __init__(self, state: State) -> None:
        self.torch = pytest.importorskip("torch")
        self.state = {name: self.torch.tensor(array) for name, array in state.items()}
        self.f = self.torch.nn.functional

    def linear(self, tokens: Any, name: str) -> Any:
        return self.f.linear(tokens, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, tokens: Any, name: str, epsilon: float) -> Any:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return self.f.layer_norm(tokens, weight.shape, weight, bias, epsilon)

    def look(self, q: Any, k: Any, v: Any, heads: int) -> Any:
        """Attend; rows are tokens."""
        found = []
        for a, b, c in zip(*(part.chunk(heads, dim=-1) for part in (q, k, v)), strict=True):
            found.append((a @ b.T / math.sqrt(a.shape[-1])).softmax(dim=-1) @ c)
        return self.torch.cat(found, dim=-1)

    def encode(self, image: np.ndarray) -> Any:
        """Return the embedding of the one picture, (channels, rows, columns)."""
        pixels = self.torch.tensor(image).permute(0, 3, 1, 2)
        base = "image_encoder."
        patches = self.f.conv2d(
            pixels,
            self.state[f"{base}patch_embed.proj.weight"],
            self.state[f"{base}patch_embed.proj.bias"],
            stride=PATCH,
        )
        table = self.state[f"{base}pos_embed"][0, 1:].T.reshape(1, WIDTH, SIDE, SIDE)
        places = self.f.interpolate(table, (GRID, GRID), mode="bicubic", align_corners=False)
        tokens = (patches + places)[0].flatten(1).T
        for index in range(DEPTH):
            block = f"{base}blocks.{index}."
            qkv = self.linear(self.norm(tokens, f"{block}norm1", 1e-6), f"{block}attn.qkv")
            found = self.look(*qkv.chunk(3, dim=-1), HEADS)
            tokens = tokens + self.linear(found, f"{block}attn.proj")
            hidden = self.linear(self.norm(tokens, f"{block}norm2", 1e-6), f"{block}mlp.fc1")
            tokens = tokens + self.linear(self.f.gelu(hidden), f"{block}mlp.fc2")
        feats = tokens @ self.state[f"{base}neck.0.weight"][:, :, 0, 0].T
        feats = self.norm(feats, f"{base}neck.1", 1e-6).T.reshape(1, INNER, GRID, GRID)
        feats = self.f.conv2d(feats, self.state[f"{base}neck.2.weight"], padding=1)
        feats = self.norm(feats[0].flatten(1).T, f"{base}neck.3", 1e-6)
        return feats.T.reshape(INNER, GRID, GRID)

    def place(self, places: Any) -> Any:
        """Encode (x, y) in 0..1."""
        matrix = self.state["prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"]
        angles = 2 * math.pi * ((2 * places - 1) @ matrix)
        return self.torch.cat([angles.sin(), angles.cos()], dim=-1)

    def embed(self, points: list[tuple[float, float, int]]) -> Any:
        """Embed (x, y, label) rows, filled up to six with (-1, -1, -1)."""
        points = points + [(-1.0, -1.0, -1)] * (6 - len(points))
        names = {-1: "invalid_points", 1: "point_embeddings"}
        names |= {2: "bbox_top_left_embeddings", 3: "bbox_bottom_right_embeddings"}
        rows = []
        for x, y, label in points:
            row = self.place(self.torch.tensor([(x + 0.5) / SIZE, (y + 0.5) / SIZE]))
            rows.append(row + self.state[f"prompt_encoder.{names[label]}.weight"][0])
        return self.torch.stack(rows)

    def attention(self, q: Any, k: Any, v: Any, name: str) -> Any:
        parts = ((q, "q"), (k, "k"), (v, "v"))
        q, k, v = (self.linear(tokens, f"{name}.{part}_proj") for tokens, part in parts)
        return self.linear(self.look(q, k, v, INNER_HEADS), f"{name}.out_proj")

    def mlp(self, tokens: Any, name: str, hidden: int) -> Any:
        for index in range(hidden):
            tokens = self.f.gelu(self.linear(tokens, f"{name}.layers.{index}.0"))
        return self.linear(tokens, f"{name}.fc")

    def decode(self, embedding: Any, points: list[tuple[float, float, int]]) -> tuple[Any, Any]:
        """Return four masks and their scores."""
        base = "mask_decoder."
        own = [self.state[f"{base}{name}.weight"] for name in ("iou_token", "mask_tokens")]
        places = self.torch.cat([*own, self.embed(points)])
        image = embedding.flatten(1).T
        centres = (self.torch.arange(GRID) + 0.5) / GRID
        rows, cols = self.torch.meshgrid(centres, centres, indexing="ij")
        grid = self.place(self.torch.stack([cols, rows], dim=-1)).flatten(0, 1)
        tokens = places
        for index in range(2):
            layer = f"{base}transformer.layers.{index}."
            if index:
                tokens = tokens + places
            tokens = tokens + self.attention(tokens, tokens, tokens, f"{layer}self_attn")
            tokens = self.norm(tokens, f"{layer}norm1", 1e-5)
            found = self.attention(
                tokens + places, image + grid, image, f"{layer}cross_attn_token_to_image"
            )
            tokens = self.norm(tokens + found, f"{layer}norm2", 1e-5)
            tokens = self.norm(tokens + self.mlp(tokens, f"{layer}mlp", 1), f"{layer}norm3", 1e-5)
            found = self.attention(
                image + grid, tokens + places, tokens, f"{layer}cross_attn_image_to_token"
            )
            image = self.norm(image + found, f"{layer}norm4", 1e-5)
        last = f"{base}transformer."
        found = self.attention(
            tokens + places, image + grid, image, f"{last}final_attn_token_to_image"
        )
        tokens = self.norm(tokens + found, f"{last}norm_final_attn", 1e-5)
        up = f"{base}final_output_upscaling_layers."
        weights = [(self.state[f"{up}{i}.0.weight"], self.state[f"{up}{i}.0.bias"]) for i in (0, 1)]
        pixels = image.T.reshape(1, INNER, GRID, GRID)
        pixels = self.f.conv_transpose2d(pixels, *weights[0], stride=2)
        affine = self.state[f"{up}0.1.weight"], self.state[f"{up}0.1.bias"]
        pixels = self.f.gelu(self.f.group_norm(pixels, 1, *affine))
        pixels = self.f.gelu(self.f.conv_transpose2d(pixels, *weights[1], stride=2))[0]
        masks = []
        for index in range(4):
            head = self.mlp(tokens[1 + index], f"{base}output_hypernetworks_mlps.{index}", 2)
            masks.append((head[:, None, None] * pixels).sum(dim=0))
        return self.torch.stack(masks), self.mlp(tokens[0], f"{base}iou_prediction_head", 2)


@pytest.fixture(scope="module")
def state() -> State:
    return make_state()


@pytest.fixture(scope="module")
def reference(state) -> Reference:
    return Reference(state)


@pytest.fixture(scope="module")
def model(state, tmp_path_factory) -> EfficientSAM:
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("efficient") / "efficient_sam_vitt.pt"
    torch.save({"model": {name: torch.tensor(array) for name, array in state.items()}}, path)
    loaded = load_published(path, family="sam")
    # No tensor of an EfficientSAM says how large its pictures are.
    config = dataclasses.replace(SAMConfig.from_dict(loaded.config), image_size=SIZE)
    graphdef, abstract = nnx.split(
        nnx.eval_shape(lambda: make_sam(config, rngs=nnx.Rngs(0))), nnx.Param
    )
    params = graft(nnx.as_pure(abstract), loaded.params)
    model = nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))
    assert isinstance(model, EfficientSAM)
    return model


@pytest.fixture(scope="module")
def embedding(model):
    graphdef, params = nnx.split(model)
    return jax.jit(lambda p, i: nnx.merge(graphdef, p).encode(i))(params, jnp.asarray(IMAGE))


def assert_near(found, want):
    """Compare at 1e-4 of the scale, which must not be nothing."""
    want = np.asarray(want)
    assert np.std(want) > 0.05
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-4 * np.abs(want).max())


def decode(model, embedding, slots):
    graphdef, params = nnx.split(model)
    return _decode(graphdef, params, embedding, slots.coords, slots.labels)


@partial(jax.jit, static_argnums=0)
def _decode(graphdef, params, embedding, coords, labels):
    return nnx.merge(graphdef, params).decode(embedding, coords, labels)


@pytest.mark.torch
def test_the_config_is_read_from_the_file(model):
    config = model.config
    assert (config.decoder, config.pos_side, config.heads) == ("efficient", SIDE, HEADS)
    assert (config.depth, config.mlp_ratio, config.decoder_mlp) == (DEPTH, 2.0, HIDDEN)
    assert SAMConfig.from_dict(config.to_dict()) == config


@pytest.mark.torch
def test_the_embedding_equals_the_reference(embedding, reference):
    assert_near(embedding[0], reference.encode(IMAGE).permute(1, 2, 0))


@pytest.mark.torch
@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("case", ["point", "points", "box", "points_box"])
def test_masks_and_scores_equal_the_reference_end_to_end(model, embedding, reference, case, tight):
    count = {"point": 1, "points": 3, "points_box": 2}.get(case, 0)
    boxes = BOXES if "box" in case else None
    slots = make_slots(XY[:, :count], np.ones((2, count), int), boxes, tight=tight)
    masks, scores = decode(model, embedding, slots)
    for row in range(2):
        points = [(*xy, 1) for xy in XY[row, :count].tolist()]
        if boxes is not None:
            x0, y0, x1, y1 = BOXES[row].tolist()
            points += [(x0, y0, 2), (x1, y1, 3)]
        want_masks, want_scores = reference.decode(reference.encode(IMAGE), points)
        assert_near(masks[row], want_masks)
        assert_near(scores[row], want_scores)


@pytest.mark.torch
def test_the_decoder_alone_equals_the_reference(model, reference):
    torch = pytest.importorskip("torch")
    said = np.random.default_rng(5).normal(size=(GRID, GRID, INNER)).astype(np.float32)
    masks, scores = decode(model, said[None], make_slots(XY[:1, :1], np.ones((1, 1), int)))
    want = reference.decode(torch.tensor(said).permute(2, 0, 1), [(*XY[0, 0].tolist(), 1)])
    assert_near(masks[0], want[0])
    assert_near(scores[0], want[1])


@pytest.mark.torch
def test_as_many_points_as_there_may_be_leave_nothing_to_fill(model, embedding, reference):
    xy = np.random.default_rng(4).uniform(0, SIZE, (1, POINTS, 2)).astype(np.float32)
    slots = make_slots(xy, np.ones((1, POINTS), int))
    masks, _ = decode(model, embedding, slots)
    want, _ = reference.decode(reference.encode(IMAGE), [(*p, 1) for p in xy[0].tolist()])
    assert_near(masks[0], want)


@pytest.mark.torch
def test_masks_from_before_are_refused(model, embedding):
    slots = make_slots(XY[:, :1], np.ones((2, 1), int))
    with pytest.raises(ValueError, match="reads no masks"):
        model.decode(
            embedding, jnp.asarray(slots.coords), jnp.asarray(slots.labels),
            mask=jnp.zeros((2, SIZE, SIZE)),
        )  # fmt: skip
