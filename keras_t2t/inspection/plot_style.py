"""What all plots share: colours, size, letters."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np

from keras_t2t.extras import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Parameters = ParamSpec("Parameters")
# Okabe and Ito's colours, which the colour-blind tell apart; markers and hatches differ as well.
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
WIDTH = 10.0  # inches, of every figure
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "figure.facecolor": "white",
    "image.interpolation": "nearest",
}


def styled(plot: Callable[Parameters, "Figure"]) -> Callable[Parameters, "Figure"]:
    """Lets a plot import matplotlib, an extra, and gives it the common style."""

    @functools.wraps(plot)
    def draw(*args: Parameters.args, **kwargs: Parameters.kwargs) -> "Figure":
        require("plot", "matplotlib")
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return draw


def new_figure(height: float) -> "Figure":
    """A figure of the common width; height in inches."""
    # Not by pyplot, which would keep it alive and choose a window system.
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def rgb(image) -> np.ndarray:
    """An image, grey or in colour, as float32 `(height, width, 3)`."""
    image = np.asarray(image, "float32")
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
