"""`benchmarks/gpu.py` runs without a GPU too: when one is at hand, it must not fail first."""

import subprocess
import sys
from pathlib import Path

SMALL = (
    "--device cpu --size 32 --images 32 --batch 16 --epochs 2 --architectures test_resnet --heads 3 "
    "--processes 2"
)


def test_the_gpu_benchmark_measures_on_a_cpu(tmp_path: Path) -> None:
    program = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.py"
    parts = ["--precision", "float32", "--parts", "loop", "script", "heads", "processes", "memory"]
    done = subprocess.run(
        [sys.executable, program, *SMALL.split(), *parts], capture_output=True, text=True, check=True
    )
    rows = [line for line in done.stdout.splitlines() if line.startswith("| test_resnet |")]
    assert len(rows) == 3 + 3 + 1 + 3 + 3
    for row, named in zip(rows, [2] * 6 + [1] + [2] * 6, strict=True):
        assert all(float(cell) > 0 for cell in row.strip("| ").split(" | ")[named:])
