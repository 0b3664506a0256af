"""`examples/tour.ipynb` runs from top to bottom, and draws."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = [pytest.mark.tensorflow, pytest.mark.long]

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_tour(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES.parent))
    notebook = nbformat.read(EXAMPLES / "tour.ipynb", as_version=4)
    # Committed without outputs: a difference between two commits is then one of the text.
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)

    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(EXAMPLES)}})
    client.execute()  # raises what a cell raises
    kinds = [kind for cell in code for output in cell.outputs for kind in output.get("data", ())]
    assert kinds.count("image/png") == 3
    text = "".join(output.get("text", "") for cell in code for output in cell.outputs)
    assert "of the test images are classified correctly" in text
    assert "model.tflite: " in text
