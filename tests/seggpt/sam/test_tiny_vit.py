"""MobileSAM against a plain torch TinyViT under the heads of transformers' SAM.

The reference below does what the facts say on a state dict with MobileSAM's names, window by window
and with its batch norms as they are.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file

from seggpt.config import SAMConfig
from seggpt.prompts import make_slots
from seggpt.sam.family import make_sam
from seggpt.sam.model import SAM, Neck
from seggpt.sam.tiny_vit import TinyViT
from seggpt.weights import load_published
from seggpt.weights.graft import graft
from seggpt.weights.sam.names import heads_name_table
from seggpt.weights.tree import flatten
from tests.seggpt.test_sam_parity import GOLDEN, decode

SIZE, WIDTH = 96, 16  # 6 x 6 patches for the heads of the recorded SAM
# Width, depth, heads, window; the grids are 24, 12, 6 and 6, and the last window is all of it.
STAGES = ((8, 1, 2, 7), (12, 1, 2, 5), (16, 2, 2, 4), (24, 1, 3, 6))
IMAGE = np.random.default_rng(1).normal(size=(1, SIZE, SIZE, 3)).astype(np.float32)
ENCODER = "image_encoder."

State = dict[str, np.ndarray]


class Maker:
    """Random weights under the names of MobileSAM's authors."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.state: State = {}

    def put(self, name: str, *shape: int, centre: float = 0.0, size: float = 0.3) -> None:
        noise = self.rng.normal(size=shape)
        self.state[ENCODER + name] = (centre + size * noise).astype(np.float32)

    def linear(self, name: str, inputs: int, outputs: int) -> None:
        self.put(f"{name}.weight", outputs, inputs, size=inputs**-0.5)
        self.put(f"{name}.bias", outputs)

    def norm(self, name: str, width: int) -> None:
        self.put(f"{name}.weight", width, centre=1)
        self.put(f"{name}.bias", width)

    def conv(self, name: str, outputs: int, inputs: int, side: int) -> None:
        self.put(f"{name}.c.weight", outputs, inputs, side, side, size=(inputs * side**2) ** -0.5)
        self.norm(f"{name}.bn", outputs)
        self.put(f"{name}.bn.running_mean", outputs)
        spread = self.rng.uniform(0.5, 2, outputs)
        self.state[f"{ENCODER}{name}.bn.running_var"] = spread.astype(np.float32)
        self.state[f"{ENCODER}{name}.bn.num_batches_tracked"] = np.asarray(7)

    def narrow(self, name: str, widths: tuple[int, int, int]) -> None:
        inputs, hidden, outputs = widths
        self.conv(f"{name}.conv1", hidden, inputs, 1)
        self.conv(f"{name}.conv2", hidden, 1, 3)
        self.conv(f"{name}.conv3", outputs, hidden, 1)


def make_state() -> State:
    """Make a MobileSAM whose heads are those of the recorded SAM."""
    maker = Maker()
    first = STAGES[0][0]
    maker.conv("patch_embed.seq.0", first // 2, 3, 3)
    maker.conv("patch_embed.seq.2", first, first // 2, 3)
    for stage, (width, depth, heads, window) in enumerate(STAGES):
        for index in range(depth):
            base = f"layers.{stage}.blocks.{index}"
            if not stage:
                maker.narrow(base, (width, 4 * width, width))
                continue
            maker.norm(f"{base}.attn.norm", width)
            maker.linear(f"{base}.attn.qkv", width, 3 * width)
            maker.linear(f"{base}.attn.proj", width, width)
            maker.put(f"{base}.attn.attention_biases", heads, window**2, size=1)
            maker.norm(f"{base}.mlp.norm", width)
            maker.linear(f"{base}.mlp.fc1", width, 4 * width)
            maker.linear(f"{base}.mlp.fc2", 4 * width, width)
            maker.conv(f"{base}.local_conv", width, 1, 3)
        if stage + 1 < len(STAGES):
            after = STAGES[stage + 1][0]
            maker.narrow(f"layers.{stage}.downsample", (width, after, after))
    last = STAGES[-1][0]
    maker.norm("norm_head", last)
    maker.linear("head", last, 5)
    maker.put("neck.0.weight", WIDTH, last, 1, 1)
    maker.norm("neck.1", WIDTH)
    maker.put("neck.2.weight", WIDTH, WIDTH, 3, 3, size=0.1)
    maker.norm("neck.3", WIDTH)
    recorded = load_file(GOLDEN / "sam" / "model.safetensors")
    pairs = zip(
        heads_name_table(dialect="huggingface"), heads_name_table(dialect="authors"), strict=True
    )
    heads = {new.theirs: recorded[old.theirs] for old, new in pairs}
    return {name: a for name, a in heads.items() if ".neck." not in name} | maker.state


class Reference:
    """TinyViT and its neck, in torch."""

    def __init__(self, state: State) -> None:
        self.torch = pytest.importorskip("torch")
        names = {name.removeprefix(ENCODER): a for name, a in state.items()}
        self.state = {name: self.torch.tensor(a) for name, a in names.items()}
        self.f = self.torch.nn.functional

    def conv(self, feats: Any, name: str, *, stride: int = 1, groups: int = 1) -> Any:
        weight = self.state[f"{name}.c.weight"]
        feats = self.f.conv2d(
            feats, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups
        )
        parts = ("running_mean", "running_var", "weight", "bias")
        return self.f.batch_norm(feats, *(self.state[f"{name}.bn.{part}"] for part in parts))

    def narrow(self, feats: Any, name: str, *, stride: int = 1) -> Any:
        feats = self.f.gelu(self.conv(feats, f"{name}.conv1"))
        groups = feats.shape[1]
        feats = self.conv(feats, f"{name}.conv2", stride=stride, groups=groups)
        return self.conv(self.f.gelu(feats), f"{name}.conv3")

    def linear(self, feats: Any, name: str) -> Any:
        return self.f.linear(feats, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, feats: Any, name: str, *, epsilon: float = 1e-5) -> Any:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return self.f.layer_norm(feats, weight.shape, weight, bias, epsilon)

    def attend(self, tokens: Any, name: str, *, heads: int, window: int) -> Any:
        """Attend in one window of (window * window, width)."""
        qkv = self.linear(self.norm(tokens, f"{name}.norm"), f"{name}.qkv")
        found = []
        for head, part in enumerate(qkv.chunk(heads, dim=-1)):
            q, k, v = part.chunk(3, dim=-1)
            logits = q @ k.T / q.shape[-1] ** 0.5
            logits = logits + self.bias(self.state[f"{name}.attention_biases"][head], window)
            found.append(logits.softmax(dim=-1) @ v)
        return self.linear(self.torch.cat(found, dim=-1), f"{name}.proj")

    def bias(self, table: Any, window: int) -> Any:
        """Number the distances in the order in which pairs of cells meet them first."""
        cells = [(row, col) for row in range(window) for col in range(window)]
        numbers: dict[tuple[int, int], int] = {}
        places = []
        for row, col in cells:
            for other_row, other_col in cells:
                distance = abs(row - other_row), abs(col - other_col)
                places.append(numbers.setdefault(distance, len(numbers)))
        return table[places].reshape(len(cells), len(cells))

    def block(self, feats: Any, name: str, *, heads: int, window: int) -> Any:
        _, width, height, across = feats.shape
        spare = [-extent % window for extent in (across, height)]
        padded = self.f.pad(feats, (0, spare[0], 0, spare[1]))
        found = self.torch.zeros_like(padded)
        for top in range(0, padded.shape[2], window):
            for left in range(0, padded.shape[3], window):
                part = padded[0, :, top : top + window, left : left + window]
                tokens = self.attend(
                    part.reshape(width, -1).T, f"{name}.attn", heads=heads, window=window
                )
                found[0, :, top : top + window, left : left + window] = tokens.T.reshape(part.shape)
        feats = feats + found[:, :, :height, :across]
        feats = self.conv(feats, f"{name}.local_conv", groups=width)
        tokens = self.norm(feats.permute(0, 2, 3, 1), f"{name}.mlp.norm")
        tokens = self.linear(self.f.gelu(self.linear(tokens, f"{name}.mlp.fc1")), f"{name}.mlp.fc2")
        return feats + tokens.permute(0, 3, 1, 2)

    def __call__(self, image: np.ndarray) -> list[Any]:
        """Return what every stage gives to the next, and the neck's embedding, channels first."""
        feats = self.conv(
            self.torch.tensor(image).permute(0, 3, 1, 2), "patch_embed.seq.0", stride=2
        )
        feats = self.conv(self.f.gelu(feats), "patch_embed.seq.2", stride=2)
        taps = []
        for stage, (_, depth, heads, window) in enumerate(STAGES):
            for index in range(depth):
                name = f"layers.{stage}.blocks.{index}"
                if stage:
                    feats = self.block(feats, name, heads=heads, window=window)
                else:
                    feats = self.f.gelu(feats + self.narrow(feats, name))
            if stage + 1 < len(STAGES):
                stride = 1 if stage + 2 == len(STAGES) else 2
                feats = self.narrow(feats, f"layers.{stage}.downsample", stride=stride)
            taps.append(feats)
        feats = self.f.conv2d(feats, self.state["neck.0.weight"])
        feats = self.norm(feats.permute(0, 2, 3, 1), "neck.1", epsilon=1e-6).permute(0, 3, 1, 2)
        feats = self.f.conv2d(feats, self.state["neck.2.weight"], padding=1)
        feats = self.norm(feats.permute(0, 2, 3, 1), "neck.3", epsilon=1e-6)
        return [*taps, feats.permute(0, 3, 1, 2)]


@pytest.fixture(scope="module")
def state() -> State:
    return make_state()


def load(path) -> SAM:
    loaded = load_published(path, family="sam")
    # No tensor of a MobileSAM says how large its pictures are.
    config = dataclasses.replace(SAMConfig.from_dict(loaded.config), image_size=SIZE)
    graphdef, abstract = nnx.split(
        nnx.eval_shape(lambda: make_sam(config, rngs=nnx.Rngs(0))), nnx.Param
    )
    params = graft(nnx.as_pure(abstract), loaded.params)
    return nnx.merge(graphdef, jax.tree.map(jnp.asarray, params))


@pytest.fixture(scope="module")
def path(tmp_path_factory, state):
    torch = pytest.importorskip("torch")
    path = tmp_path_factory.mktemp("mobile") / "mobile_sam.pt"
    torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
    return path


@pytest.fixture(scope="module")
def model(path) -> SAM:
    return load(path)


@pytest.fixture(scope="module")
def found(model) -> list[np.ndarray]:
    """What our stages give, and our embedding."""
    graphdef, params = nnx.split(model)

    def run(params, image):
        model = nnx.merge(graphdef, params)
        return *model.vit.taps(image), model.encode(image)

    return [np.asarray(a) for a in jax.jit(run)(params, jnp.asarray(IMAGE))]


@pytest.fixture(scope="module")
def wanted(state) -> list[Any]:
    return Reference(state)(IMAGE)


@pytest.mark.torch
def test_stages_are_read_from_the_file(model):
    assert model.config.stages == STAGES
    assert (model.config.patch_size, model.config.width, model.config.depth) == (16, 24, 1)
    assert SAMConfig.from_dict(model.config.to_dict()) == model.config


@pytest.mark.torch
def test_every_stage_and_the_embedding_equal_the_reference(found, wanted):
    for stage, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        want = theirs.permute(0, 2, 3, 1).numpy()
        assert np.std(want) > 0.3
        tolerance = 1e-4 * np.abs(want).max()
        np.testing.assert_allclose(ours, want, rtol=0, atol=tolerance, err_msg=str(stage))


@pytest.mark.torch
def test_masks_equal_the_reference_end_to_end(model, found, wanted):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    reference = transformers.SamModel.from_pretrained(GOLDEN / "sam").eval()
    reference.prompt_encoder.input_image_size = SIZE
    rng = np.random.default_rng(2)
    points = rng.uniform(0, SIZE, (2, 2, 2)).astype(np.float32)
    boxes = rng.uniform(0, SIZE, (2, 4)).astype(np.float32)
    labels = np.array([[1, 0], [1, 1]])
    with torch.no_grad():
        output = reference(
            image_embeddings=wanted[-1],
            input_points=torch.tensor(points[None]),
            input_labels=torch.tensor(labels[None]),
            input_boxes=torch.tensor(boxes[None]),
        )
    masks, scores = decode(model, jnp.asarray(found[-1]), make_slots(points, labels, boxes))
    for ours, theirs in ((masks, output.pred_masks), (scores, output.iou_scores)):
        want = theirs[0].numpy()
        assert np.std(want) > 0.05
        np.testing.assert_allclose(ours[:, 1:], want, rtol=0, atol=1e-4 * np.abs(want).max())


def test_the_preset_is_of_the_published_size():
    """6,065,532 numbers in the encoder of mobile_sam.pt: those of norms and of a head are not here.

    A norm has four a channel, of which two are trained, and left one bias.
    """

    class Encoder(nnx.Module):
        def __init__(self, config: SAMConfig, *, rngs: nnx.Rngs) -> None:
            self.vit = TinyViT(config.stages, rngs=rngs)
            self.neck = Neck(config.width, config.prompt_width, rngs=rngs)

    abstract = nnx.eval_shape(lambda: Encoder(SAMConfig.mobile_sam(), rngs=nnx.Rngs(0)))
    flat = flatten(nnx.as_pure(nnx.state(abstract, nnx.Param)))
    normed = ("stem1", "stem2", "conv1", "conv2", "conv3", "local")
    scales = []
    for name, leaf in flat.items():
        *_, layer, array = name.split(".")
        if name.startswith("vit.") and layer in normed and array == "bias":
            scales.append(leaf.size)
    head = 2 * 320 + 320 * 1000 + 1000
    assert sum(leaf.size for leaf in flat.values()) + sum(scales) + head == 6_065_532
