"""`Predictor`: SAM's interface for points, boxes and masks."""

from typing import Literal, Unpack

import numpy as np
from jaxtyping import Bool, Float32
from numpy.typing import ArrayLike

from incontext.files.images import ImageSource, PictureOptions, load_image
from incontext.options import check_choice
from incontext.prompts.promptable import EncodedImage, OnPromptable, Promptable
from seggpt.errors import PromptError

ChannelOrder = Literal["RGB", "BGR"]


class Predictor(OnPromptable):
    """A model and the picture that it was last shown.

    `segment_anything.SamPredictor` with numpy for torch. All that it remembers is one immutable
    `EncodedImage`, swapped as a whole: a thread that calls `predict` while another one calls
    `set_image` gets an answer about one of the two pictures. For several pictures at a time share
    one `Promptable` (`predictor.model`) and keep its states.
    """

    def __init__(self, model: Promptable) -> None:
        self.model = model
        self._state: EncodedImage | None = None

    def set_image(
        self,
        image: ImageSource,
        image_format: ChannelOrder = "RGB",
        **options: Unpack[PictureOptions],
    ) -> None:
        """Encode a picture for the prompts to come; arrays may come in OpenCV's BGR.

        `options` are those of `incontext.files.images.load_image`: max_pixels, alpha, bands.

        Raises:
            InputError: if the picture cannot be used.
            PromptError: if the format or an option makes no sense.
        """
        check_choice("image_format", image_format, ChannelOrder)
        picture = load_image(image, **options)
        self._state = self.model.encode(picture[..., ::-1] if image_format == "BGR" else picture)

    def predict(
        self,
        point_coords: ArrayLike | None = None,
        point_labels: ArrayLike | None = None,
        box: ArrayLike | None = None,
        mask_input: ArrayLike | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[
        Bool[np.ndarray, "c h w"] | Float32[np.ndarray, "c h w"],
        Float32[np.ndarray, " c"],
        Float32[np.ndarray, "c mh mw"],
    ]:
        """Return the masks of one prompt, their predicted IoU and their low-resolution logits.

        Args:
            point_coords: (k, 2), (x, y) in pixels of the picture.
            point_labels: (k,), 1 foreground or 0 background.
            box: (4,), x0, y0, x1, y1 in pixels.
            mask_input: (1, m, m), low-resolution logits of an earlier call.
            multimask_output: Three masks for a prompt that may mean several things, or one.
            return_logits: Logits in place of masks, which are where they exceed 0.

        Raises:
            PromptError: if no picture was set, or the prompt makes no sense.
        """
        state = self._current()
        if (point_coords is None) != (point_labels is None):
            raise PromptError("point_coords and point_labels come together; give both")
        if point_coords is not None and np.ndim(point_coords) != 2:  # pyright: ignore[reportArgumentType] (numpy's stubs are narrower than numpy)
            raise PromptError(f"point_coords of {np.ndim(point_coords)} axes; give (k, 2)")  # pyright: ignore[reportArgumentType] (as above)
        answer = self.model.predict(
            state,
            points=point_coords,
            labels=point_labels,
            boxes=None if box is None else np.reshape(box, -1),
            mask=mask_input,
            multimask=multimask_output,
        )
        full = answer.logits() if return_logits else answer.masks()
        return full[0], answer.scores[0], answer.low_res[0]

    def get_image_embedding(self) -> Float32[np.ndarray, "1 d gh gw"]:
        """Return the encoded picture, channels first as SAM's users expect them.

        Raises:
            PromptError: if no picture was set.
        """
        patches = self.model.engine.patches(self._current().embedding)
        return patches.transpose(2, 0, 1)[None]

    def reset_image(self) -> None:
        """Forget the picture."""
        self._state = None

    @property
    def is_image_set(self) -> bool:
        """Whether there is a picture to ask about."""
        return self._state is not None

    def _current(self) -> EncodedImage:
        if (state := self._state) is None:
            raise PromptError("no picture yet; call set_image before predict")
        return state
