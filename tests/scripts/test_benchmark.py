"""What the benchmark measures, and that it measures."""

import importlib.util
import json
import sys
from pathlib import Path

import keras
import pytest

from keras_t2t.inspection import complexity
from tests.inspection.small_models import small_model

SCRIPTS = Path(__file__).parents[2] / "scripts"
sys.path.append(str(SCRIPTS))

import benchmark  # noqa: E402
from benchmarking.plot import plot  # noqa: E402
from benchmarking.products import batch_products, flops, timer  # noqa: E402


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"token_mixer": "transformer"},
        {"token_mixer": "patch", "input_shape": (32, 32, 3)},
        {"include_top": False},
        {"flavor": "squeeze_excite"},
    ],
    ids=str,
)
def test_the_limit_is_of_all_products_and_no_others(arguments):
    model = small_model(**arguments)
    products = batch_products(model, batch=3)
    macs = sum(
        times * count * rows * inner * columns
        for (count, rows, inner, columns, _), times in products.items()
    )
    assert macs == 3 * complexity(model).macs
    assert flops(products, training=False) == 2 * macs
    # Backward each product is two more, but one of the first.
    # The image needs no gradient.
    first = [key for key, times in products.items() if not key[-1]]
    assert len(first) == products[first[0]] == 1
    count, rows, inner, columns, _ = first[0]
    assert flops(products, training=True) == 6 * macs - 2 * count * rows * inner * columns


def test_products_without_a_rule_are_refused():
    for arguments in ({"flavor": "ghost"}, {"token_mixer": "convolution"}):
        with pytest.raises(ValueError):
            batch_products(small_model(**arguments), 1)


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


def without(monkeypatch, *missing):
    """As if some packages were not installed, and all others were."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else object()
    )


def test_cases_that_take_turns(monkeypatch):
    without(monkeypatch)
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


def test_a_release_and_each_form_run_beside(monkeypatch, tmp_path):
    without(monkeypatch)
    (tmp_path / "keras_t2t").mkdir()
    networks = ["t2t_vit", "without:class_token", "without:performer+soft_split", "limit"]
    options = benchmark.arguments(
        ["--runtimes", "jax", "--against", str(tmp_path), "--networks", *networks]
    )
    cases = [(case["network"], Path(case["folder"])) for case in next(benchmark.groups(options))]
    here = SCRIPTS.parent
    assert cases == [(networks[0], here), ("t2t_vit", tmp_path)] + [
        (network, here) for network in networks[1:]
    ]


def test_networks_are_compared_turn_by_turn(capsys):
    def row(network, folder=SCRIPTS.parent, runtime="jax", jit=True):
        figures = {"seconds": 1.0, "quartiles": (1, 1), "images_per_second": 1, "peak_rss": 0}
        shared = dict.fromkeys(("variant", "image_size", "batch", "dtype", "mode"), "")
        case = {"network": network, "folder": str(folder), "runtime": runtime, "jit": jit}
        return {**shared, **figures, **case, "environment": ""}

    rows = [row("t2t_vit"), row("t2t_vit", "/old"), row("plain"), row("plain", jit=False)]
    # Each turn is slower than the last for all: only turn by turn the ratio shows.
    medians = [[1, 2, 4, 8], [1.1, 2.2, 4.4, 8.8], [2, 4, 8, 24], [1, 1, 1, 1]]
    for case, turns in zip(rows, medians, strict=True):
        benchmark.compare(case, turns, rows, medians)
    assert "to_t2t_vit" not in rows[0] and "to_t2t_vit" not in rows[3]
    assert rows[1]["to_t2t_vit"] == pytest.approx([1.1] * 3)
    assert rows[2]["to_t2t_vit"] == pytest.approx([2, 2, 2.75])
    benchmark.report(rows)
    out = capsys.readouterr().out
    assert "jax, t2t_vit, jit, old" in out and "1.100    1.100 -   1.100" in out


def test_torch_is_compiled_only_if_asked_to(monkeypatch):
    without(monkeypatch)
    for arguments, expected in (
        ("", {"tensorflow": {True}, "torch": {False}}),
        ("--jit on", {"tensorflow": {True}, "torch": {True}}),
    ):
        options = benchmark.arguments(f"--runtimes tensorflow torch {arguments}".split())
        found = {}
        for case in next(benchmark.groups(options)):
            if case["network"] == "t2t_vit":
                found.setdefault(case["runtime"], set()).add(case["jit"])
        assert found == expected


def test_what_is_not_installed_is_left_out(monkeypatch, capsys):
    without(monkeypatch, "openvino", "keras_hub")
    options = benchmark.arguments(["--networks", "vit_small", "t2t_vit"])
    assert options.runtimes == ["tensorflow", "jax", "torch", "onnxruntime"]
    assert options.networks == ["t2t_vit"]
    assert capsys.readouterr().out.splitlines() == [
        "openvino: left out, needs `pip install openvino`",
        "vit_small: left out, needs `pip install keras-hub`",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--variants t2t_vit_14 nosuch", "argument --variants: expected of"),
        ("--networks t2t_vit nosuch", "argument --networks: expected of t2t_vit, plain"),
        ("--networks without:nosuch", "argument --networks: expected of class_token"),
        ("--rounds 0", "argument --rounds: expected an integer of at least 1, got '0'"),
        ("--batch-sizes 0", "argument --batch-sizes: expected an integer of at least 1"),
        ("--networks plain --plot x.png", "argument --plot: draws the networks t2t_vit and stem"),
        (
            "--plot x.png",
            'argument --plot: matplotlib is not installed: pip install "keras_t2t[plot]"',
        ),
        ("--plot missing/x.png", "there is no folder missing"),
        ("--json missing/x.json", "there is no folder missing"),
        ("--environments FAST", "argument --environments: expected NAME=VALUE, got 'FAST'"),
        ("--against missing", "argument --against: no checkout: missing"),
        ("--runtimes openvino", "nothing is left to measure"),
        ("--runtimes onnxruntime --modes train", "nothing is left to measure"),
    ],
)
def test_arguments_are_checked_before_the_first_case(arguments, message, monkeypatch, capsys):
    without(monkeypatch, "openvino", "matplotlib")
    with pytest.raises(SystemExit) as stopped:
        benchmark.arguments(arguments.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_each_environment_is_a_case(monkeypatch):
    without(monkeypatch)
    flags = "A='x y' B=1"
    options = benchmark.arguments(["--runtimes", "jax", "openvino", "--environments", "", flags])
    cases = [case for case in next(benchmark.groups(options)) if case["network"] != "limit"]
    assert [case.get("environment") for case in cases] == ["", flags, None]
    given = [benchmark.variables_of(case) for case in cases]
    assert [(each.get("A"), each.get("B")) for each in given] == [
        (None, None),
        ("x y", "1"),
        (None, None),
    ]


def test_workers_share_an_accelerator():
    given = benchmark.variables_of({"runtime": "jax", "folder": "."})
    assert given["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false" and given["KERAS_BACKEND"] == "jax"


@pytest.mark.above_backends
@pytest.mark.slow
def test_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "SECONDS", 0)
    path = tmp_path / "figures.json"
    backend = keras.backend.backend()
    arguments = f"--variants t2t_vit_7 --image-sizes 32 --batch-sizes 2 --runtimes {backend}"
    arguments += " --networks t2t_vit limit peak"
    monkeypatch.setattr(
        "sys.argv", ["benchmark.py", *arguments.split(), "--rounds", "3", "--json", str(path)]
    )
    benchmark.main()
    ours, limit, peak = json.loads(path.read_text())
    assert ours["steps"] == 3 and 0 < ours["seconds"] < 10
    assert ours["share_of_limit"] == pytest.approx(limit["seconds"] / ours["seconds"])
    assert peak["flops"] == 2 * 2048**3 and peak["network_flops"] > 5e7
    arithmetic = peak["network_flops"] * peak["seconds"] / peak["flops"]
    assert ours["share_of_peak"] == pytest.approx(arithmetic / ours["seconds"])
    assert ours["images_per_second"] == pytest.approx(2 / ours["seconds"])
    assert ours["peak_rss"] > 2**27
    out = capsys.readouterr().out
    assert f"{backend}, t2t_vit" in out and "TFLOP/s" in out


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


def test_plot_draws_each_case_as_a_line_of_its_own():
    shared = {
        "network": "t2t_vit",
        "variant": "t2t_vit_14",
        "mode": "infer",
        "runtime": "jax",
        "batch": 8,
        "image_size": 224,
        "images_per_second": 20,
    }
    rows = [
        {**shared, "dtype": dtype, "jit": jit, "environment": "", "folder": "here"}
        for dtype in ("float32", "bfloat16")
        for jit in (True, False)
    ]
    (axis,) = plot(rows).axes
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[1] == "t2t_vit_14, infer, jax, batch 8, dtype float32, jit False"
    assert len(set(labels)) == 4
