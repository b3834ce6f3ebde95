"""The floor plan holds: packages import downwards only, in no circle; and the code stays small."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np

import medfathom

SOURCE = Path(medfathom.__file__).parent

FLOORS = (
    {"cli", "cli_data", "cli_elsewhere", "cli_models", "__init__", "__main__"},
    {"terminal"},
    {
        "run",
        "validate",
        "plan",
        "report",
        "forecast",
        "confirm",
        "answer",
        "export",
        "export_runs",
        "external",
        "shift",
        "own_data",
        "samples",
    },
    {"reporting"},
    {"evaluation"},
    {"confirmation"},
    {"dashboard"},
    {"scheduling"},
    {"study"},
    {"exported"},
    {"analysis"},
    {"trial"},
    {"models"},
    {"data"},
    {"definitions"},
    {"metrics"},
    {"colours", "errors", "files", "html", "machine", "text", "units", "urls"},
)
"""From the top down; see docs/architecture.md."""


def _modules() -> dict[str, Path]:
    """Dotted name below `medfathom` -> file; a package under its own name."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = file
    return found


MODULES = _modules()


def _imports(name: str) -> Iterator[str]:
    """Modules of ours that a module imports, within functions too; not those for types alone."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "medfathom":
            base = (node.module or "").removeprefix("medfathom").lstrip(".")
            for alias in node.names:
                inner_name = f"{base}.{alias.name}".lstrip(".")
                yield inner_name if inner_name in MODULES else base or "__init__"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("medfathom."):
                    yield alias.name.removeprefix("medfathom.")


IMPORTS = {name: sorted(set(_imports(name)) - {name}) for name in MODULES}


def _floor(name: str) -> int:
    return next(i for i, rooms in enumerate(FLOORS) if name.split(".", maxsplit=1)[0] in rooms)


def test_every_module_has_a_floor() -> None:
    on_a_floor = set().union(*FLOORS)
    assert {name.split(".")[0] for name in MODULES} == on_a_floor


def test_packages_import_downwards_only() -> None:
    upwards = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        for other in others
        if _floor(other) < _floor(name)
    ]
    assert not upwards


def test_nothing_imports_in_a_circle() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


LONGEST_FILE = 400
LONGEST_BODY = 50
MEDIAN_BODY = 8
LONG_BODY = 25
"""At most one in ten is as long as this."""
UNTYPED = 40
"""Uses of `dict[str, Any]`: for the edge to JSON."""


def _body_lengths() -> dict[str, int]:
    """Function -> lines from its first statement after the docstring to its end."""
    found = {}
    for name, file in MODULES.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body and node.end_lineno is not None:
                    found[f"{name}:{node.lineno} {node.name}"] = node.end_lineno - body[0].lineno + 1
    return found


def test_bodies_are_short() -> None:
    lengths = _body_lengths()
    assert {where: lines for where, lines in lengths.items() if lines > LONGEST_BODY} == {}
    values = list(lengths.values())
    assert np.median(values) < MEDIAN_BODY
    assert np.percentile(values, 90) < LONG_BODY


def test_files_are_short() -> None:
    lengths = {name: len(file.read_text(encoding="utf-8").splitlines()) for name, file in MODULES.items()}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE} == {}


def test_what_passes_between_functions_is_typed() -> None:
    untyped = re.compile(r"\b[dD]ict\[str, Any\]")
    counts = {name: len(untyped.findall(file.read_text(encoding="utf-8"))) for name, file in MODULES.items()}
    assert sum(counts.values()) < UNTYPED, {name: n for name, n in counts.items() if n}


def test_no_two_test_files_share_a_name() -> None:
    """Pytest imports them by name: the second one would not be collected."""
    names = [file.name for file in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
