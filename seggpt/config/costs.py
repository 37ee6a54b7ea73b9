"""What an image encoder costs, counted from its shapes alone."""

from seggpt.config.encoder import EncoderConfig


def count_parameters(config: EncoderConfig) -> int:
    """Return how many numbers an encoder has, as we keep them: without the norm after its end."""
    d = config.width
    tokens = 1 + config.registers
    if config.positions == "table":
        tokens += config.pos_grid[0] * config.pos_grid[1]
    embedding = (3 * config.patch_size**2 + 1) * d
    norms_and_scales = 6 * d
    biases = 4 * d + sum(outputs for _, outputs in _mlp_layers(config))
    block = _block_weights(config) + biases + norms_and_scales
    return tokens * d + embedding + config.depth * block


def count_flops(config: EncoderConfig, size: tuple[int, int]) -> int:
    """Return the operations of one picture of `size` (height, width): matrix products alone.

    Blocks after the last one that is read are not run.
    """
    patches = (size[0] // config.patch_size) * (size[1] // config.patch_size)
    tokens = patches + 1 + config.registers
    looking = 2 * tokens * config.width  # what each token compares, and what it takes
    block = tokens * (_block_weights(config) + looking)
    embedding = patches * 3 * config.patch_size**2 * config.width
    return 2 * (embedding + (max(config.taps) + 1) * block)


def _block_weights(config: EncoderConfig) -> int:
    """Return the numbers in the matrices of a block."""
    mlp = sum(inputs * outputs for inputs, outputs in _mlp_layers(config))
    return 4 * config.width**2 + mlp


def _mlp_layers(config: EncoderConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the inputs and outputs of the two layers of an MLP."""
    hidden = round(config.width * config.mlp_ratio)
    gated = config.activation == "swiglu"
    return (config.width, (1 + gated) * hidden), (hidden, config.width)
