"""Architectures as frozen dataclasses: what decides the shapes of a model and nothing else.

Presets are class methods, such as `InContextConfig.small()`.
"""

from seggpt.config.encoder import ENCODER_MODEL as ENCODER_MODEL
from seggpt.config.encoder import ENCODERS as ENCODERS
from seggpt.config.encoder import Activation as Activation
from seggpt.config.encoder import EncoderConfig as EncoderConfig
from seggpt.config.encoder import ViTConfig as ViTConfig
from seggpt.config.encoder import choose_taps as choose_taps
from seggpt.config.heads import MASK_STRIDE as MASK_STRIDE
from seggpt.config.heads import PROMPT_HEADS as PROMPT_HEADS
from seggpt.config.heads import HeadsConfig as HeadsConfig
from seggpt.config.heads import PromptHeadsConfig as PromptHeadsConfig
from seggpt.config.in_context import IN_CONTEXT_MODEL as IN_CONTEXT_MODEL
from seggpt.config.in_context import InContextConfig as InContextConfig
from seggpt.config.matching import MatchingConfig as MatchingConfig
from seggpt.config.sam import SAM_MODEL as SAM_MODEL
from seggpt.config.sam import SAMConfig as SAMConfig
from seggpt.config.sam import SAMDecoder as SAMDecoder
from seggpt.config.seggpt import Attention as Attention
from seggpt.config.seggpt import SegGPTConfig as SegGPTConfig
