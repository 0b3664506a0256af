"""The pictures hold what they are given."""

import numpy as np
import pytest
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from keras_t2t.inspection import (
    dead_channels,
    plot_attention,
    plot_complexity,
    plot_dead_channels,
    plot_feature_maps,
    save_figure,
)
from keras_t2t.inspection.published import OTHERS, VARIANTS
from tests.inspection.small_models import images

pytestmark = pytest.mark.above_backends


def drawn(axis):
    return [artist for artist in axis.get_children() if isinstance(artist, AxesImage)]


def frames(axis):
    """Frames around maps; the background of the axis itself is filled."""
    found = (artist for artist in axis.get_children() if isinstance(artist, Rectangle))
    return [frame for frame in found if not frame.get_fill()]


def some_maps():
    maps = {"first": images(3, (4, 5, 7)), "second": images(3, (2, 2, 30))}
    maps["first"][..., [1, 6]] = 0
    return maps


def test_feature_maps():
    maps = some_maps()
    figure = plot_feature_maps(maps, dead_channels(maps), index=1, channels=5, columns=3)
    first, second = figure.axes
    assert first.get_title(loc="left") == "first: 4 x 5, 5 of 7 channels, 2 dead"
    assert second.get_title(loc="left") == "second: 2 x 2, 5 of 30 channels, 0 dead"
    assert len(drawn(first)) == len(drawn(second)) == 5
    # Channel 6 is dead too, but not among the five.
    assert [frame.get_xy() for frame in frames(first)] == [(1.1, 0)]
    assert frames(second) == []

    shade = drawn(first)[3].get_array()  # second line, first place
    expected = maps["first"][1, :, :, 3]
    spread = expected.max() - expected.min()
    np.testing.assert_allclose(shade, (expected - expected.min()) / spread, atol=1e-6)
    left, right, bottom, top = drawn(first)[3].get_extent()
    assert (left, right) == (0, 1) and top == pytest.approx(0.9) and bottom == pytest.approx(1.7)
    assert np.all(drawn(first)[1].get_array() == 0.5)


def test_feature_maps_with_the_image():
    maps = {"first": images(1, (4, 4, 3))}
    image = np.linspace(0, 1, 16).reshape(4, 4, 1)
    figure = plot_feature_maps(maps, image=image)
    np.testing.assert_allclose(
        drawn(figure.axes[0])[0].get_array(), np.repeat(image, 3, axis=-1), atol=1e-6
    )
    assert figure.axes[1].get_title(loc="left") == "first: 4 x 4, 3 of 3 channels"


def test_dead_channels():
    dead = dead_channels(some_maps())
    figure = plot_dead_channels({"one": dead, "two": dead})
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["one", "two"]
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    assert [text.get_text() for text in axis.texts] == ["2 of 7", "0 of 30"]
    zero = axis.containers[0]
    assert zero.get_label() == "zero"
    np.testing.assert_allclose([bar.get_width() for bar in zero], [100 * 2 / 7, 0])
    assert len(plot_dead_channels(dead).axes) == 1


def test_attention():
    image, heat = images(1, (8, 8, 3))[0].clip(0, 1), np.array([[3.0, 1.0], [1.0, 2.0]])
    flat = np.ones((2, 2))
    figure = plot_attention(image, {"a": heat, "b": flat}, columns=2, marks={"a": (0.5, 0.25)})
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["image", "a", "b", ""]
    np.testing.assert_allclose(drawn(figure.axes[0])[0].get_array(), image)
    _, overlay = drawn(figure.axes[1])
    np.testing.assert_allclose(overlay.get_array(), [[1, 0], [0, 0.5]])
    assert overlay.get_extent() == [-0.5, 7.5, 7.5, -0.5]
    assert [line.get_xydata().tolist() for line in figure.axes[1].lines] == [[[1.5, 3.5]]] * 2
    assert len(figure.axes[2].lines) == 0
    np.testing.assert_allclose(drawn(figure.axes[2])[1].get_array(), 0)


def test_complexity():
    rows = (*VARIANTS, *OTHERS)
    figure = plot_complexity(rows)
    macs, parameters = figure.axes
    points = {tuple(point) for line in macs.lines for point in line.get_xydata()}
    assert points == {(row.macs, row.top1) for row in rows}
    points = {tuple(point) for line in parameters.lines for point in line.get_xydata()}
    assert points == {(row.parameters, row.top1) for row in rows}
    assert {"14", "t_24", "ViT-B/16", "ResNet50*"} < {text.get_text() for text in macs.texts}
    # Neither colour nor marker alone tells the families apart.
    looks = [(line.get_color(), line.get_marker()) for line in macs.lines]
    assert len({color for color, _ in looks}) == len({marker for _, marker in looks}) == len(looks)
    assert "T2T-ViT paper, table 3" in figure.get_supxlabel()


def test_figures_have_one_width_and_legible_letters():
    maps = some_maps()
    figures = [
        plot_feature_maps(maps),
        plot_dead_channels(dead_channels(maps)),
        plot_attention(images(1)[0], {"a": np.ones((2, 2))}),
        plot_complexity(VARIANTS),
    ]
    for figure in figures:
        assert figure.get_size_inches()[0] == 10
        for axis in figure.axes:
            assert axis.title.get_fontsize() >= 10
            assert all(text.get_fontsize() >= 8 for text in axis.texts)


def test_save_figure(tmp_path):
    path = tmp_path / "cost.svg"
    save_figure(path)
    first = path.read_bytes()
    assert b"<svg" in first
    with pytest.raises(FileExistsError, match="cost.svg exists"):
        save_figure(path)
    path.write_text("")
    save_figure(path, overwrite=True)
    assert len(path.read_bytes()) == len(first)
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(ValueError, match="ends in .png, .svg or .pdf, got .*cost.txt"):
        save_figure(tmp_path / "cost.txt")
