#!/usr/bin/env python3
"""Executes each notebook as Jupyter would, from top to bottom, and looks that none is kept with outputs.

    run_notebooks.py <folder for the venv> <folder of notebooks> <loracle>

Exits with 77 where PyPI cannot be reached.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))
import pypi  # noqa: E402

PACKAGES = ("nbclient==0.10.2", "nbformat==5.10.4", "ipykernel==6.29.5", "matplotlib==3.9.4")
EXECUTE = """
import sys
import nbclient
import nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbformat.validate(notebook)
nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
charts = sum(any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))
             for cell in notebook.cells)
print(charts)
"""


def is_clean(path):
    """Outputs would be stale tomorrow, and bloat every change."""
    cells = json.loads(path.read_text())["cells"]
    return all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def main():
    home, folder, loracle = (Path(argument).resolve() for argument in sys.argv[1:4])
    notebooks = sorted(folder.glob("*.ipynb"))
    if not notebooks:
        sys.exit(f"FAILED: {folder} has no notebooks")
    kept = [path.name for path in notebooks if not is_clean(path)]
    if kept:
        sys.exit(f"FAILED: with outputs: {', '.join(kept)}: clear them before they are kept")
    programs = pypi.programs(home, *PACKAGES)
    if programs is None:
        sys.exit(77)
    python = programs / "python"
    environment = {**os.environ, "LORACLE": str(loracle), "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                   "IPYTHONDIR": str(home / "ipython"), "JUPYTER_PLATFORM_DIRS": "1"}
    failed = []
    for path in notebooks:
        run = subprocess.run([python, "-c", EXECUTE, path], capture_output=True, text=True, env=environment,
                             cwd=home)
        charts = int(run.stdout.strip() or 0) if run.returncode == 0 else 0
        if run.returncode != 0 or charts == 0:
            failed.append(path.name)
            print(f"FAILED: {path.name}: {run.stderr[-3000:] or 'it draws nothing'}")
        else:
            print(f"{path.name}: {charts} charts")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
