"""The notebook of the documentation runs in a kernel, and shows what it promises."""

import os
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
NOTEBOOK = Path(__file__).resolve().parents[2] / "docs" / "notebook.ipynb"


def test_the_notebook_runs(workdir: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, 4)
    os.environ["IPYTHONDIR"] = str(workdir / "ipython")
    client = nbclient.NotebookClient(
        notebook, kernel_name="python3", resources={"metadata": {"path": workdir}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(str(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    assert "demo: 2 of 2 trials (2 complete)" in said  # the progress of the search
    assert "Trial" in said
    assert "confirmed on 60 test images" in said
    assert "A trained network" in said
    assert "Class probabilities" in said
    assert "ImageNet top-1 accuracy" in said
    assert (workdir / "report" / "report.html").is_file()
