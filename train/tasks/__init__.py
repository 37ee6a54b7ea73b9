"""The tasks that can be trained."""

import jax

from data.config import PromptsConfig
from seggpt.config import InContextConfig
from train.config import MaskedConfig, TrainConfig
from train.tasks.finetune import FinetuneTask
from train.tasks.in_context import InContextTask
from train.tasks.masked import MaskedTask
from train.tasks.pairs import PairsTask
from train.tasks.prompts import PromptsTask
from train.tasks.task import Batches as Batches
from train.tasks.task import Step as Step
from train.tasks.task import Task as Task


def make_task(config: TrainConfig, mesh: jax.sharding.Mesh) -> Task:
    """Return the task of a recipe.

    Raises:
        ValueError: if its data do not fit.
    """
    if isinstance(config.data, PromptsConfig):
        return PromptsTask(config, mesh)
    if isinstance(config.model, InContextConfig):
        return (FinetuneTask if config.train_encoder else InContextTask)(config, mesh)
    is_masked = isinstance(config.model, MaskedConfig)
    return (MaskedTask if is_masked else PairsTask)(config, mesh)
