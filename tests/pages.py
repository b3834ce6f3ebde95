"""README.md and the tutorials: their commands, and how they are run as they are printed."""

import re
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

NOT_RUN = {
    "uv run tests/gate.py": "would run this test again",
    "uv run medfathom run demo --storage postgresql+psycopg://user@host/medfathom": "wants a server",
    "uv run medfathom plan oct-scans.toml": "takes minutes; tests/test_plan.py runs it on a small study",
    "uv run medfathom submit demo --slurm --minutes 240 --gpus 1 --cpus 8 --memory 32": "wants Slurm",
    "uv run ray start --head --port 6379": "wants several machines",
    "uv run ray start --address HEAD:6379": "wants several machines",
    "uv run medfathom run demo --address HEAD:6379": "wants several machines",
}
"""Lines that cannot run here, with the reason."""

BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRAMS = {"sh": ["bash", "-euo", "pipefail"], "python": ["uv", "run", "python"]}


PAGES = ("README.md", "docs/tutorial.md", "docs/analysis.md", "docs/cluster.md", "docs/python.md")
"""In the order in which they are read; a later page has what the commands of an earlier one left."""


def text_of(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks() -> list[tuple[str, str]]:
    """Language and text of every fenced block that is not output; a block that repeats another comes once."""
    return list(dict.fromkeys(block for page in PAGES for block in BLOCK.findall(text_of(page))))


def story(*, of_the_demo: bool) -> list[tuple[str, str]]:
    """The blocks that need the demo's study, or the others: neither needs what the other leaves."""
    return [block for block in blocks() if ("demo" in block[1]) == of_the_demo]


def without_comment(line: str) -> str:
    return line.partition("  #")[0].strip()


def runnable(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if without_comment(line) not in NOT_RUN)


def run_as_printed(blocks: list[tuple[str, str]], checkout: Path) -> str:
    """What the blocks print, one after the other; each line must succeed."""
    said = ""
    for language, text in blocks:
        script = checkout.parent / "script"
        script.write_text(runnable(text))
        done = subprocess.run(
            [*PROGRAMS[language], str(script)],
            cwd=checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{runnable(text)}\n{done.stdout}"
        said += done.stdout
    return said
