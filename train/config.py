"""The dataclasses of a recipe: model, data, optimiser, loss and run."""

from dataclasses import dataclass, field
from typing import Literal

from data.config import DataConfig, FeaturesConfig, PromptsConfig
from seggpt.config import EncoderConfig, InContextConfig, SegGPTConfig


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW with warm-up and a half cosine to zero."""

    lr: float = 1e-3
    warmup: int = 500  # steps
    weight_decay: float = 0.05  # not on vectors and tables of positions
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0  # global norm of the gradient
    layer_decay: float = 1.0  # factor on the rate for each block below the top
    slow: tuple[str, ...] = ()  # parts that start right: a lower rate, no decay
    slow_rate: float = 0.15  # factor on the rate of those
    ema: float = 0.999  # decay of the averaged weights that are evaluated and released


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Smooth L1 with colours balanced; pairs are values at the first and the last step."""

    beta: tuple[float, float] = (0.5, 0.1)
    balance: tuple[float, float] = (1.0, 0.5)  # power of the inverse share of a colour
    floor: float = 0.02  # least share of a picture that a colour is taken to have


@dataclass(frozen=True, kw_only=True)
class ClicksConfig:
    """Heads for prompts are trained: what is asked of them (`train.prompting`)."""

    boxes: float = 0.5  # share of first prompts that are boxes, not points
    box_noise: float = 0.1  # most deviation of a box's edges, as a share of its sides
    alpha: float = 0.25  # weight of what is marked in the focal loss; the rest has 1 - alpha
    dice: float = 1.0  # weight of the dice loss; the focal loss has 20
    interior: float = 0.5  # share of clicks that fall well inside what is wrong


@dataclass(frozen=True, kw_only=True)
class MaskedConfig:
    """An encoder that is pretrained by painting what is hidden of images (MAE)."""

    encoder: EncoderConfig
    image_size: int
    kept: float = 0.25  # share of the patches that the encoder sees
    decoder_width: int = 256
    decoder_depth: int = 4
    decoder_heads: int = 8

    def __post_init__(self) -> None:
        """Check sizes against each other.

        Raises:
            ValueError: naming the field and what it must be.
        """
        if self.image_size % self.encoder.patch_size:
            patch = self.encoder.patch_size
            raise ValueError(f"image_size {self.image_size} is not a multiple of {patch}")
        if self.encoder.positions != "table":
            raise ValueError(f"positions {self.encoder.positions} are not implemented here")
        if not 0 < self.kept < 1:
            raise ValueError(f"kept {self.kept} is not between 0 and 1")

    @property
    def depth(self) -> int:
        """Blocks of what is kept in the end."""
        return self.encoder.depth


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A whole training run.

    An `InContextConfig` learns from `FeaturesConfig`, whose samples say how many there are and how
    many examples they have, or its heads for prompts do from `PromptsConfig` and `clicks`; the
    fields from `view_size` to `half_masks` are for the others.
    """

    model: SegGPTConfig | InContextConfig | MaskedConfig
    data: DataConfig | FeaturesConfig | PromptsConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    clicks: ClicksConfig | None = None
    steps: int = 10_000
    view_size: int = 0  # side of the views that are trained on, in pixels; 0: the model's own
    batch_size: int = 16  # samples, each of `data.pairs.views` pictures
    shots: tuple[tuple[int, float], ...] = ((1, 0.6), (2, 0.2), (3, 0.2))  # examples: share
    drop_path: float = 0.0  # mutual attention: share of canvases that pass by the last block
    half_masks: float = 0.7  # mutual attention: share of samples that mask the query, all of it
    seed: int = 0
    dtype: Literal["float32", "bfloat16", "auto"] = "auto"  # auto: bfloat16 on accelerators
    remat: bool = False  # compute activations twice to hold fewer
    accumulate: int = 1  # parts that a batch is taken in, one after the other, in one update
    fsdp: int = 0  # devices that one copy of the weights is split over; 0: all of them
    match_init: bool = True  # fresh weights start with attention to what looks alike
    init: str = ""  # a weights file to start from
    frozen: tuple[str, ...] = ()  # parts of the model that stay as they are, such as "stem"
    train_encoder: bool = False  # an in-context model's encoder learns, too
    log_every: int = 50
    eval_every: int = 500
    sheet_every: int = 1000
    checkpoint_every: int = 1000
    keep: int = 2  # checkpoints
    # Which weights are released: the last, or those of the look at held-out samples (`eval_every`,
    # and before the first step) with the best IoU; where there are none to look at, the last.
    release: Literal["last", "best"] = "last"
    most_skipped: int = 10  # updates in a row that are not finite, before a run stops

    @property
    def seggpt(self) -> SegGPTConfig:
        """The model of a recipe that learns from pictures."""
        assert isinstance(self.model, SegGPTConfig)
        return self.model

    @property
    def pictures(self) -> DataConfig:
        """The data of a recipe that learns from pictures."""
        assert isinstance(self.data, DataConfig)
        return self.data

    def __post_init__(self) -> None:
        """Check what no single part can check.

        Raises:
            ValueError: naming the field and what it must be.
        """
        if min(self.accumulate, self.most_skipped, self.keep) < 1:
            raise ValueError("accumulate, most_skipped and keep must be 1 or more")
        in_context = isinstance(self.model, InContextConfig)
        if in_context != isinstance(self.data, FeaturesConfig | PromptsConfig):
            raise ValueError(
                "an in-context model learns from FeaturesConfig, others from DataConfig"
            )
        if isinstance(self.data, PromptsConfig) != (self.clicks is not None):
            raise ValueError("heads for prompts learn from PromptsConfig and clicks: set both")
        mutual = isinstance(self.model, SegGPTConfig) and self.model.attention == "mutual"
        if not (self.drop_path == 0 or (mutual and 0 < self.drop_path < 1)):
            raise ValueError(
                f"drop_path {self.drop_path} must be 0, or below 1 for a model of mutual attention"
            )
        if isinstance(self.model, SegGPTConfig):
            self._check_pairs(self.seggpt)

    def _check_pairs(self, model: SegGPTConfig) -> None:
        views, patch = self.pictures.pairs.views, model.patch_size
        if not all(1 <= shots < views for shots, _ in self.shots) or not self.shots:
            raise ValueError(f"shots {self.shots} must be from 1 to views - 1, {views - 1}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of accumulate {self.accumulate}"
            )
        if self.view_size % patch:
            raise ValueError(f"view_size {self.view_size} is not a multiple of patch_size {patch}")
