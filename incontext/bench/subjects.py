"""What is measured: our model and its peer, from pixels in memory to a mask in memory."""

import importlib
import time
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import UInt8

from incontext.examples.context import Context, Example
from incontext.examples.in_context_engine import InContextEngine
from incontext.segmenter import Segmenter
from seggpt.config import SegGPTConfig
from seggpt.errors import DeviceError
from seggpt.in_context.model import Cache
from seggpt.model import SegGPT
from seggpt.weights.aligned import empty_aligned
from seggpt.weights.keys import Keys
from seggpt.weights.tree import Params, flatten, unflatten

PRESETS = {
    name: getattr(SegGPTConfig, name) for name in ("tiny", "small", "base", "large", "painter")
}


class Subject(Protocol):
    """Something that does its task for one picture at a call."""

    device: str
    dtype: str
    gflop: float  # of one picture, or 0 where it is not known
    matmul_gflops: float  # of the device, or 0 where it was not measured

    def __call__(self) -> None:
        """Do the task and wait for what comes of it."""
        ...

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Random pictures and a mask of half of each: the time does not depend on what they show."""

    examples: tuple[UInt8[np.ndarray, "h w 3"], ...]
    masks: tuple[UInt8[np.ndarray, "h w"], ...]
    query: UInt8[np.ndarray, "h w 3"]

    @classmethod
    def draw(cls, count: int, size: int) -> "Pictures":
        """Draw `count` examples and a query, all squares of `size` pixels."""
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (count + 1, size, size, 3), np.uint8)
        mask = np.zeros((size, size), np.uint8)
        mask[: size // 2] = 1
        return cls(tuple(images[:-1]), (mask,) * count, images[-1])


class Ours:
    """A `Segmenter` and a context that is made before the clock starts."""

    def __init__(self, model: str | None, *, examples: int, device: str | None, dtype: Any) -> None:
        if model in PRESETS:
            config = PRESETS[model]()
            params = draw_params(_abstract(config))
            segmenter = Segmenter(config, params, device=device, dtype=dtype)
        else:
            segmenter = Segmenter.from_pretrained(model, device=device, dtype=dtype)
        pictures = Pictures.draw(examples, segmenter.engine.size)
        pairs = [Example(*pair) for pair in zip(pictures.examples, pictures.masks, strict=True)]
        self._context = segmenter.context(pairs)
        self._query = pictures.query
        self._segmenter = segmenter
        self.device = segmenter.device.device_kind
        self.dtype = segmenter.dtype
        self.gflop = _count(segmenter, self._context, examples)
        self.matmul_gflops = measure_matmul(segmenter.device, segmenter.dtype)

    def __call__(self) -> None:
        """Segment the picture and wait for the mask."""
        _ = self._segmenter.segment(self._query, self._context).label_map

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        stats = self._segmenter.device.memory_stats()
        return (stats or {}).get("peak_bytes_in_use", 0)


class Transformers:
    """The SegGPT of Hugging Face's transformers at its published size, with random weights.

    Several examples are as many canvases with its feature ensemble.
    """

    gflop = matmul_gflops = 0.0

    def __init__(self, *, examples: int, device: str | None, dtype: str) -> None:
        torch, transformers = import_peer()
        wanted = {None: "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}
        place = wanted.get(device, device)
        if place not in ("cpu", "cuda"):
            raise DeviceError(f"--device {device}: transformers is measured on cpu and gpu only")
        self._torch, self._place, self._dtype = torch, place, getattr(torch, dtype)
        torch.manual_seed(0)
        model = transformers.SegGptForImageSegmentation(transformers.SegGptConfig())
        self._model = model.to(device=place, dtype=self._dtype).eval()
        self._processor = transformers.SegGptImageProcessor()
        self._pictures = Pictures.draw(examples, transformers.SegGptConfig().image_size[1])
        self.device = torch.cuda.get_device_name() if place == "cuda" else "cpu"
        self.dtype = dtype

    def __call__(self) -> None:
        """Segment the picture and wait for the mask."""
        pictures = self._pictures
        inputs = self._processor(
            images=[pictures.query] * len(pictures.examples),
            prompt_images=list(pictures.examples),
            prompt_masks=list(pictures.masks),
            num_labels=1,
            return_tensors="pt",
        ).to(self._place)
        inputs = {name: array.to(self._dtype) for name, array in inputs.items()}
        with self._torch.no_grad():
            found = self._model(**inputs, feature_ensemble=len(pictures.examples) > 1)
        found["pred_masks"] = found["pred_masks"][:1].float()
        size = pictures.query.shape[:2]
        mask = self._processor.post_process_semantic_segmentation(found, [size], num_labels=1)[0]
        mask.cpu().numpy()

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        return self._torch.cuda.max_memory_allocated() if self._place == "cuda" else 0


def import_peer() -> tuple[Any, Any]:
    """Return torch and transformers, which are there only where someone measures against them."""
    return importlib.import_module("torch"), importlib.import_module("transformers")


def _count(segmenter: Segmenter, context: Context, examples: int) -> float:
    """Return the GFLOP of one square picture with a context."""
    engine = segmenter.engine
    if isinstance(engine, InContextEngine):
        assert isinstance(context.arrays, Cache)
        return engine.count_gflop(context.arrays)
    assert isinstance(segmenter.config, SegGPTConfig)
    return count_gflop(segmenter.config, examples)


def count_gflop(config: SegGPTConfig, examples: int) -> float:
    """Return the GFLOP of one picture with a context, counted by XLA before it optimises.

    The graph for an accelerator is counted, as it has no loops, whose bodies count once.
    """
    graphdef, params = nnx.split(_abstract(config), nnx.Param)
    size = config.image_size
    query = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    grids = jax.ShapeDtypeStruct((1, examples, size, size, 3), jnp.float32)
    kind = jnp.zeros(1, int)
    params = nnx.as_pure(params)

    def encode(params: Any, images: Any, targets: Any) -> Any:
        return nnx.merge(graphdef, params).encode(images, targets, kind=kind)

    def decode(params: Any, cache: Any, query: Any) -> Any:
        return nnx.merge(graphdef, params).decode(cache, query, kind=kind)

    def both(params: Any, images: Any, targets: Any, query: Any) -> Any:
        return nnx.merge(graphdef, params)(images, targets, query, kind=kind)

    if config.attention == "prefix":
        cache = jax.eval_shape(encode, params, grids, grids)
        traced = jax.jit(decode).trace(params, cache, query)
    else:
        traced = jax.jit(both).trace(params, grids, grids, query)
    lowered = traced.lower(lowering_platforms=("tpu",))
    return float((lowered.cost_analysis() or {}).get("flops", 0)) / 1e9


def measure_matmul(device: Any, dtype: str) -> float:
    """Return the GFLOP/s of a large matrix product: the best of some."""
    side = 2048 if device.platform == "cpu" else 8192
    matrix = jax.device_put(jnp.ones((side, side), dtype), device)
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best / 1e9


def _abstract(config: SegGPTConfig) -> SegGPT:
    return nnx.eval_shape(lambda: SegGPT(config, rngs=Keys(0)))


def draw_params(abstract: nnx.Module) -> Params:
    """Draw random weights for a model, the same ones every time."""
    rng = np.random.default_rng(0)
    shapes = flatten(nnx.as_pure(nnx.split(abstract, nnx.Param)[1]))
    params = {name: empty_aligned(leaf.shape, np.float32) for name, leaf in shapes.items()}
    for array in params.values():
        rng.standard_normal(dtype=np.float32, out=array)
        array *= 0.02
    return unflatten(params)
