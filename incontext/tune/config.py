"""Settings of a tuning run, with working defaults."""

import math
from dataclasses import dataclass

from incontext.options import Learn, Learned, Start
from seggpt.errors import PromptError

MAX_PROMPT_BYTES = 8_000_000
RATES: dict[Learned, float] = {"pixels": 0.1, "tokens": 0.05, "cache": 0.03, "head": 3e-3}  # Adam's


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """How a prompt is tuned.

    Attributes:
        learn: `pixels` learns an image and a target as the paper does, `tokens` the embedded
            prompt, `cache` the keys and values of a prefix model's blocks, `head` a small network
            that corrects what an in-context model finds; `auto` is `head` for those, `cache` where
            the model has one, else `pixels`.
        start: `spread` starts from some tokens of many pictures, `best` from the example that does
            best alone, `random` from noise, for comparison; `auto` is `spread` with `cache`, which
            alone can, else `best`.
        prompts: How many image and target pairs the prompt has, or as many tokens as so many pairs
            have; several work as an ensemble. 0 chooses: one with a `spread` start, else with
            prefix attention up to three, as a file holds, else one.
        steps: Updates; 0 chooses by what is learned.
        minutes: When to stop at the latest; None chooses by what is learned. A run that is cut
            here depends on the machine's speed.
        batch_size: Views an update sees.
        micro_batch: Views in memory together; gradients of a batch are added up.
        lr: Adam's learning rate; 0 is the one of `RATES`.
        hold_out: Pictures kept aside to compare and to stop by; None chooses.
        labels_per_pass: Labels painted together; 0 chooses by what a file may hold.
        patience: Rounds without a better score after which to stop.
        view_size: Side of the views that are learned from, in pixels; 0 takes two thirds of the
            model's own where it can see those, for a third of the time.
        scale: Least area of a crop, as a share of its picture.
        jitter: How far brightness, contrast and saturation of a view are changed, as a share.
        turns: Whether views are also turned upside down and on their side: for what has no top,
            such as tissue, walls and fields from above.
        average: Share of the learned arrays' running average that stays at each step; the average
            is what is judged and saved. 0 takes the last step's arrays.
        remat: Compute activations twice to hold fewer.
        seed: Same seed, pictures and machine, same prompt.
    """

    learn: Learn = "auto"
    start: Start = "auto"
    prompts: int = 0
    steps: int = 0
    minutes: float | None = None
    batch_size: int = 6
    micro_batch: int = 1
    lr: float = 0.0
    hold_out: int | None = None
    labels_per_pass: int = 0
    patience: int = 6
    view_size: int = 0
    scale: float = 0.25
    jitter: float = 0.2
    turns: bool = False
    average: float = 0.9
    remat: bool = False
    seed: int = 0
    views: int = 60  # prepared together, each used `reuse` times: a round
    reuse: int = 2
    pool_bytes: int = 400_000_000  # what prepared views may take
    balance: float = 0.5  # power of the inverse share of a colour in the smooth L1
    beta: float = 0.5  # of the smooth L1
    overlap: float = 0.5  # weight of the soft IoU beside it

    def __post_init__(self) -> None:
        """Check numbers.

        Raises:
            PromptError: naming the field and what it must be.
        """
        positive = ("batch_size", "micro_batch", "patience", "views", "reuse")
        for name in positive:
            if getattr(self, name) < 1:
                raise PromptError(f"{name} {getattr(self, name)} must be at least 1")
        if self.batch_size % self.micro_batch:
            raise PromptError(
                f"batch_size {self.batch_size} is not a multiple of micro_batch {self.micro_batch}"
            )
        chosen = ("prompts", "steps", "lr", "labels_per_pass", "view_size", "hold_out")
        for name in chosen:
            if (getattr(self, name) or 0) < 0:
                raise PromptError(f"{name} {getattr(self, name)} must not be negative")
        if self.minutes is not None and not (self.minutes > 0 and math.isfinite(self.minutes)):
            raise PromptError(f"minutes {self.minutes} must be above 0")
        if not 0 < self.scale <= 1:
            raise PromptError(f"scale {self.scale} must be above 0 and at most 1")
        for name in ("jitter", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise PromptError(f"{name} {getattr(self, name)} must be at least 0 and below 1")
