"""Weights in and out: our own safetensors files, published checkpoints, and safe `.pth` reading."""

from seggpt.weights.files import LoadedWeights as LoadedWeights
from seggpt.weights.files import file_sha256 as file_sha256
from seggpt.weights.files import load_weights as load_weights
from seggpt.weights.files import save_weights as save_weights
from seggpt.weights.pth.read import read_pth as read_pth
from seggpt.weights.pth.unpickle import Global as Global
from seggpt.weights.pth.unpickle import Stub as Stub
from seggpt.weights.published import detect_family as detect_family
from seggpt.weights.published import load_published as load_published
