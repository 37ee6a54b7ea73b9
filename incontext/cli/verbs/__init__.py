"""The arguments of each verb. Nothing here may import jax, numpy or Pillow at its top."""
