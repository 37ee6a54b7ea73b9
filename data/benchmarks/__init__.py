"""Episodes to score few-shot segmentation on."""

from .episodes import Episode as Episode
from .episodes import Pair as Pair
from .episodes import load_episode as load_episode
from .episodes import make_episodes as make_episodes
from .episodes import make_reader as make_reader
