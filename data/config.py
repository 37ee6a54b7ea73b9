"""The dataclasses of a recipe's data part."""

from dataclasses import dataclass, field

from data.feature_samples import HELD_OUT, SamplesConfig
from data.prompt_samples import HELD_OUT as HELD_OUT_PROMPTS
from data.prompt_samples import PromptSamplesConfig
from data.views.plan import PlanConfig
from seggpt.palette import ColoringConfig


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which pictures make a sample, and what is marked in them."""

    views: int = 4  # pictures of a sample, examples and queries together
    slots: int = 4  # labels that a sample may have beside the background
    temperature: float = 0.5  # a data set's weight is its number of pictures to this power
    weights: dict[str, float] = field(default_factory=dict)  # factors on those, by name
    two_views: tuple[float, float] = (0.6, 0.3)  # share of samples from one picture: first, last
    several_labels: float = 0.3  # share of samples with more than one label
    instances: float = 0.5  # share of samples from one picture that mark instances, if it has some
    by_instance: tuple[str, ...] = ()  # data sets whose samples always mark instances
    min_area: float = 0.005  # least share of a picture for a class to be asked for

    def __post_init__(self) -> None:
        """Check that several labels have room.

        Raises:
            ValueError: if they have not.
        """
        if self.slots < (2 if self.several_labels else 1):
            raise ValueError(
                f"slots {self.slots} are too few for several_labels {self.several_labels}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How each view of a picture is cut out and recoloured."""

    scale: tuple[float, float] = (0.3, 1.0)  # area of a crop, as a share of the picture
    aspect: float = 4 / 3  # crops are up to this much wider or taller
    tries: int = 4  # crops drawn, of which one that shows something marked is kept
    flip: float = 0.5
    upside_down: float = 0.1
    transpose: float = 0.1
    jitter: float = 0.8  # share of samples whose colours are jittered, all views alike
    own_jitter: float = 0.3  # how far each view departs from that, as a share of its strength
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    grey: float = 0.05
    stitch: float = 0.2  # share of views that two pictures of the sample share, side by side


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Data sets, how they are sampled, and how samples look."""

    path: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # empty: every data set found
    pack_size: int = 128  # side of the decoded pictures, in pixels
    threads: int = 4  # that decode pictures
    sprites: int = 3000  # pictures made of pasted sprites
    pairs: PairsConfig = field(default_factory=PairsConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    coloring: ColoringConfig = field(default_factory=ColoringConfig)

    def __post_init__(self) -> None:
        """Check that numbers are not too small.

        Raises:
            ValueError: naming the field.
        """
        if self.sprites < 0:
            raise ValueError(f"sprites {self.sprites} must not be negative")
        if self.threads < 1:
            raise ValueError(f"threads {self.threads} must be 1 or more")


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """A cache of a frozen encoder's features (`data.feature_cache`), and its samples."""

    path: tuple[str, ...] = ()  # the cache's folder; with `views` also data sets
    views: PlanConfig | None = None  # what is cached of data sets, once, in their folder
    encoder: str = "dinov2-small"  # the weights that it was made with
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    # A cache of held-out pictures (--split val), to look at now and then; with `views` and without
    # one, the data sets' own split val, if there is one.
    held_out: str = ""
    held_out_samples: SamplesConfig = HELD_OUT
    held_out_count: int = 40  # samples of it


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """A cache of a frozen encoder's features, and what is pointed at in it."""

    path: tuple[str, ...] = ()
    encoder: str = "dinov2-small"  # what the cache is of; the weights name it
    held_out: str = ""  # a cache of held-out pictures; empty: no look at them
    held_out_count: int = 24  # batches
    samples: PromptSamplesConfig = field(default_factory=PromptSamplesConfig)
    held_out_samples: PromptSamplesConfig = HELD_OUT_PROMPTS
