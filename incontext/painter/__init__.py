"""Painter's colour codes: what its tasks look like as pictures, and what its pictures mean.

Painter does seven tasks by painting; a task is only the code between its results and RGB. Encoders
make the 8-bit targets that Painter was trained on; decoders read what it paints. All are pure numpy
functions from array to array: no model, no files, no resizing. Where the reference resizes a
prediction between the two, the decoder says how. A painted picture is uint8, or float with 1.0 for
255, such as `seggpt.canvas.denormalize` returns.

Formulas and constants are those of github.com/baaivision/Painter at commit cfec845 (MIT); each
module names the files. Denoising, deraining and low light have no encoder: the target is the clean
picture itself.
"""

from incontext.painter.dense import decode_depth as decode_depth
from incontext.painter.dense import decode_restored as decode_restored
from incontext.painter.dense import encode_depth as encode_depth
from incontext.painter.instances import INSTANCE_COLORS as INSTANCE_COLORS
from incontext.painter.instances import Instances as Instances
from incontext.painter.instances import decode_instances as decode_instances
from incontext.painter.instances import encode_instances as encode_instances
from incontext.painter.instances import matrix_nms as matrix_nms
from incontext.painter.keypoints import FLIP_PAIRS as FLIP_PAIRS
from incontext.painter.keypoints import KEYPOINT_CODES as KEYPOINT_CODES
from incontext.painter.keypoints import Keypoints as Keypoints
from incontext.painter.keypoints import average_flipped as average_flipped
from incontext.painter.keypoints import decode_keypoints as decode_keypoints
from incontext.painter.keypoints import encode_keypoints as encode_keypoints
from incontext.painter.keypoints import keypoint_heatmaps as keypoint_heatmaps
from incontext.painter.panoptic import Panoptic as Panoptic
from incontext.painter.panoptic import Segment as Segment
from incontext.painter.panoptic import classify_instances as classify_instances
from incontext.painter.panoptic import decode_panoptic as decode_panoptic
from incontext.painter.panoptic import merge_panoptic as merge_panoptic
from incontext.painter.semantic import ADE20K_COLORS as ADE20K_COLORS
from incontext.painter.semantic import COCO_COLORS as COCO_COLORS
from incontext.painter.semantic import IGNORE as IGNORE
from incontext.painter.semantic import decode_semantic as decode_semantic
from incontext.painter.semantic import encode_semantic as encode_semantic
from incontext.painter.semantic import semantic_distances as semantic_distances
