"""What is measured of promptable models: encoding, a click, and everything mode, with its peer."""

from typing import Any

import jax
import numpy as np
from jaxtyping import UInt8

from incontext.bench.sam_weights import draw_state, to_params
from incontext.bench.subjects import import_peer
from incontext.device import choose_device, default_dtype
from incontext.everything.generator import AutomaticMaskGenerator
from incontext.prompts.engine import SAMEngine
from incontext.prompts.promptable import Promptable
from seggpt.config import SAMConfig
from seggpt.errors import DeviceError
from seggpt.resize import bilinear_matrix

PRESETS = {name: getattr(SAMConfig, name) for name in ("sam_base", "sam_large", "sam_huge")}
SIZE = (768, 1024)  # of the picture: 4 to 3, so a fourth of the model's square is empty
# What about 40% of the masks of the random weights pass, where trained ones have 0.88 and 0.95.
RANDOM_IOU, RANDOM_STABILITY = -0.9, 0.8


def draw_picture() -> UInt8[np.ndarray, "h w 3"]:
    """Draw a picture of soft blobs, the same every time."""
    down, across = (bilinear_matrix(12, extent) for extent in SIZE)
    coarse = np.random.default_rng(1).uniform(0, 255, (12, 12, 3))
    return np.einsum("ha,wb,abc->hwc", down, across, coarse, optimize=True).astype(np.uint8)


class OurSAM:
    """A `Promptable` with random weights of a size, or with weights from a file."""

    gflop = matmul_gflops = 0.0

    def __init__(
        self, model: str, *, task: str, points_per_side: int, device: str | None, dtype: Any
    ) -> None:
        thresholds: dict[str, Any] = {}
        if model in PRESETS:
            config = PRESETS[model]()
            params = to_params(draw_state(config), config)
            place = choose_device(device)
            chosen = dtype or default_dtype(place)
            self._model = Promptable(SAMEngine(config, params, device=place, dtype=chosen))
            thresholds = {
                "pred_iou_thresh": RANDOM_IOU,
                "stability_score_thresh": RANDOM_STABILITY,
            }
        else:
            self._model = Promptable.from_pretrained(model, device=device, dtype=dtype)
        self._picture = draw_picture()
        self._generator = AutomaticMaskGenerator(self._model, points_per_side, **thresholds)
        self._run = getattr(self, f"_{task}")
        if task == "click":
            self._state = self._model.encode(self._picture)
        self.device = self._model.device.device_kind
        self.dtype = str(jax.tree.leaves(self._model.engine.params)[0].dtype)

    def __call__(self) -> None:
        """Do the task once and wait for what comes of it."""
        self._run()

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        return (self._model.device.memory_stats() or {}).get("peak_bytes_in_use", 0)

    def _encode(self) -> None:
        jax.block_until_ready(self._model.encode(self._picture).embedding)

    def _click(self) -> None:
        self._model.predict(self._state, points=[(SIZE[1] / 2, SIZE[0] / 2)]).masks()

    def _everything(self) -> None:
        self._generator.generate(self._picture)


class TransformersSAM:
    """The SAM of Hugging Face's transformers, and its mask-generation pipeline."""

    gflop = matmul_gflops = 0.0

    def __init__(
        self, model: str, *, task: str, points_per_side: int, device: str | None, dtype: str
    ) -> None:
        torch, transformers = import_peer()
        wanted = {None: "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}
        place = wanted.get(device, device)
        if place not in ("cpu", "cuda"):
            raise DeviceError(f"--device {device}: transformers is measured on cpu and gpu only")
        self._torch, self._place = torch, place
        config = PRESETS[model]()
        peer = transformers.SamModel(_peer_config(config))
        state = {name: torch.from_numpy(array) for name, array in draw_state(config).items()}
        peer.load_state_dict(state)
        self._model = peer.to(device=place, dtype=getattr(torch, dtype)).eval()
        self._processor = transformers.SamImageProcessor()
        self._pipeline = transformers.pipeline(
            "mask-generation",
            model=self._model,
            image_processor=self._processor,
            device=place,
        )
        self._side = points_per_side
        self._picture = draw_picture()
        self._run = getattr(self, f"_{task}")
        if task == "click":
            self._embedding = self._encode()
        self.device = torch.cuda.get_device_name() if place == "cuda" else "cpu"
        self.dtype = dtype

    def __call__(self) -> None:
        """Do the task once and wait for what comes of it."""
        with self._torch.no_grad():
            self._run()

    def device_bytes(self) -> int:
        """Return the most memory used on an accelerator, or 0 without one."""
        return self._torch.cuda.max_memory_allocated() if self._place == "cuda" else 0

    def _encode(self) -> Any:
        inputs = self._processor(images=self._picture, return_tensors="pt")
        self._sizes = inputs["original_sizes"], inputs["reshaped_input_sizes"]
        pixels = inputs["pixel_values"].to(self._place, self._model.dtype)
        with self._torch.no_grad():
            embedding = self._model.get_image_embeddings(pixels)
        if self._place == "cuda":
            self._torch.cuda.synchronize()
        return embedding

    def _click(self) -> None:
        # The middle of the picture, in pixels of the model's square.
        point = self._torch.tensor([[[[SIZE[1] / 2, SIZE[0] / 2]]]], dtype=self._model.dtype)
        answer = self._model(image_embeddings=self._embedding, input_points=point.to(self._place))
        masks = self._processor.post_process_masks(answer.pred_masks.float(), *self._sizes)
        masks[0].cpu().numpy()

    def _everything(self) -> None:
        from PIL import Image

        self._pipeline(
            Image.fromarray(self._picture),
            points_per_batch=64,
            points_per_crop=self._side,
            pred_iou_thresh=RANDOM_IOU,
            stability_score_thresh=RANDOM_STABILITY,
        )


def _peer_config(config: SAMConfig) -> Any:
    """Return the configuration of the same model in transformers."""
    _, transformers = import_peer()
    vision = {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "global_attn_indexes": list(config.global_blocks),
        "mlp_dim": int(config.width * config.mlp_ratio),
    }
    return transformers.SamConfig(vision_config=vision)
