"""The benchmark of exported models: what it refuses before it exports."""

import runpy
from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnx")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--variants t2t_vit_7 nosuch", "argument --variants: invalid choice: 'nosuch'"),
        ("--rounds 0", "argument --rounds: expected an integer of at least 1, got '0'"),
        ("--threads 0", "argument --threads: expected an integer of at least 1, got '0'"),
        ("--threads two", "argument --threads: expected an integer of at least 1, got 'two'"),
    ],
)
def test_arguments(arguments, message, capsys):
    main = runpy.run_path(str(Path(__file__).parents[2] / "scripts/benchmark_edge.py"))["main"]
    with pytest.raises(SystemExit) as stopped:
        main(arguments.split())
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
