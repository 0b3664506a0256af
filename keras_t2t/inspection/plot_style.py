"""What all plots share: colours, size, letters."""

import functools

import numpy as np

# Okabe and Ito's colours, which the colour-blind tell apart; markers and hatches differ as well.
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PURPLE, GREY = "#E69F00", "#D55E00", "#CC79A7", "#666666"
WIDTH = 10.0  # inches, of every figure
STYLE = {
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "legend.frameon": False,
    "figure.facecolor": "white",
}


def styled(plot):
    """Lets a plot import matplotlib, an extra, and gives it the common style."""

    @functools.wraps(plot)
    def draw(*args, **kwargs):
        try:
            import matplotlib
        except ImportError as error:
            raise ImportError(
                "Plots need matplotlib. Install it with: pip install keras-t2t[plot]"
            ) from error
        with matplotlib.rc_context(STYLE):
            return plot(*args, **kwargs)

    return draw


def new_figure(height):
    """A figure of the common width; height in inches."""
    from matplotlib.figure import Figure

    # Not from pyplot, which would keep it alive and choose a window system.
    return Figure(figsize=(WIDTH, height), layout="constrained")


def rgb(image):
    """The image as (height, width, 3), whatever it is."""
    image = np.asarray(image, "float32")
    image = image[..., None] if image.ndim == 2 else image
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image
