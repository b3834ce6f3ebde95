"""The site of the documentation is built; every key of a definition is told there, with what it means."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="mkdocs-material wants Python 3.11.5")
REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.large
def test_the_site_is_built_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    keys = (tmp_path / "definition" / "index.html").read_text(encoding="utf-8")
    assert "<code>similar_words</code>" in keys
    assert "run_study" in (tmp_path / "python" / "index.html").read_text(encoding="utf-8")


def test_every_key_says_what_it_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    from hooks import definition_keys  # noqa: PLC0415  beside the pages, not a package

    rows = [line for line in "\n".join(definition_keys()).splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []
