"""What the benchmark measures, and that it measures."""

import json
import sys
from pathlib import Path

import keras
import pytest
from inspection.small_models import small_model

from keras_t2t.inspection import complexity

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

import benchmark  # noqa: E402
from benchmarking.plot import plot  # noqa: E402
from benchmarking.products import matrix_products, timer  # noqa: E402


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"token_mixer": "transformer"},
        {"token_mixer": "patch", "input_shape": (32, 32, 3)},
        {"include_top": False},
    ],
    ids=str,
)
def test_the_limit_is_of_all_products_and_no_others(arguments):
    model = small_model(**arguments)
    products = matrix_products(model, batch=3)
    macs = sum(
        times * count * rows * inner * columns
        for (count, rows, inner, columns, _), times in products.items()
    )
    assert macs == 3 * complexity(model).macs
    # The image needs no gradient.
    first = [key for key, times in products.items() if not key[-1]]
    assert len(first) == products[first[0]] == 1


def test_products_without_a_rule_are_refused():
    for arguments in ({"flavor": "ghost"}, {"token_mixer": "convolution"}):
        with pytest.raises(ValueError):
            matrix_products(small_model(**arguments), 1)


@pytest.mark.parametrize("training, expected", [(False, 2), (True, 5)])
def test_each_product_is_run_forward_and_backward(training, expected, monkeypatch):
    shapes = []

    def fake(transpose_a, transpose_b):
        return lambda left, right: shapes.append(
            ((*left[0].shape, transpose_a), (*right[0].shape, transpose_b))
        )

    monkeypatch.setattr(f"benchmarking.products._{keras.backend.backend()}", fake)
    timer({(1, 6, 4, 5, False): 1, (3, 2, 4, 5, True): 1}, training, "float32")
    assert len(shapes) == 3 * expected
    for (*batch, rows, columns, transpose_a), (*_, inner, outer, transpose_b) in shapes:
        assert len(batch) in (0, 1)
        assert (rows if transpose_a else columns) == (outer if transpose_b else inner)


def test_cases_that_take_turns():
    options = benchmark.arguments(
        "--modes infer train --batch-sizes 1 8 --jit on off --runtimes jax openvino".split()
    )
    groups = list(benchmark.groups(options))
    assert [(group[0]["batch"], group[0]["mode"]) for group in groups] == [
        (1, "infer"),
        (1, "train"),
        (8, "infer"),
        (8, "train"),
    ]
    cases = [(case["runtime"], case["network"], case.get("jit")) for case in groups[0]]
    ours = [("jax", "t2t_vit", True), ("jax", "t2t_vit", False), ("jax", "limit", True)]
    assert cases == [*ours, ("openvino", "plain", None)]
    # Other runtimes do not train.
    assert [case["runtime"] for case in groups[1]] == ["jax"] * 3


@pytest.mark.tensorflow
def test_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SECONDS", 0)
    path = tmp_path / "figures.json"
    arguments = "--variants t2t_vit_7 --image-sizes 32 --batch-sizes 2 --runtimes tensorflow"
    monkeypatch.setattr(
        "sys.argv", ["benchmark.py", *arguments.split(), "--rounds", "3", "--json", str(path)]
    )
    benchmark.main()
    ours, limit = json.loads(path.read_text())
    assert ours["steps"] == 3 and 0 < ours["seconds"] < 10
    assert ours["share_of_limit"] == pytest.approx(limit["seconds"] / ours["seconds"])
    assert ours["images_per_second"] == pytest.approx(2 / ours["seconds"])
    assert ours["peak_rss"] > 2**27
    assert "tensorflow, t2t_vit, jit" in capsys.readouterr().out


def test_plot():
    rows = [
        {
            "network": network,
            "variant": "t2t_vit_14",
            "mode": "infer",
            "runtime": "jax",
            "batch": 8,
            "image_size": size,
            "images_per_second": 1e6 / size**2,
        }
        for network in ("t2t_vit", "stem")
        for size in (112, 224)
    ]
    figure = plot(rows)
    assert [axis.get_title("left") for axis in figure.axes] == [
        "whole network",
        "stem: all before the encoder",
    ]
    measured, proportional = figure.axes[1].get_lines()
    assert list(measured.get_xdata()) == [112**2, 224**2]
    assert list(measured.get_ydata()) == pytest.approx(list(proportional.get_ydata()))
