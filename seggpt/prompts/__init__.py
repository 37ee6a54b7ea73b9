"""Heads for points, boxes and masks: what a prompt says, and the masks that it asks for."""

from seggpt.prompts.decoder import MASKS as MASKS
from seggpt.prompts.decoder import MaskDecoder as MaskDecoder
from seggpt.prompts.encoder import ABSENT as ABSENT
from seggpt.prompts.encoder import BACKGROUND as BACKGROUND
from seggpt.prompts.encoder import FIRST_CORNER as FIRST_CORNER
from seggpt.prompts.encoder import FOREGROUND as FOREGROUND
from seggpt.prompts.encoder import PADDING as PADDING
from seggpt.prompts.encoder import SECOND_CORNER as SECOND_CORNER
from seggpt.prompts.encoder import PromptEncoder as PromptEncoder
from seggpt.prompts.slots import SLOTS as SLOTS
from seggpt.prompts.slots import Slots as Slots
from seggpt.prompts.slots import make_slots as make_slots
from seggpt.prompts.transformer import Guidance as Guidance
