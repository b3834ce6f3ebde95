"""Numbers and commands as short text, the same everywhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
import unicodedata
from collections.abc import Sequence
from contextvars import ContextVar
from pathlib import Path

SPARKS = "▁▂▃▄▅▆▇█"

SHORT_KEYS = {"architecture": "", "init": "", "unfreeze_depth": "depth ", "strategy": ""}
"""How hyperparameters are written in a short name of a stratum; others keep their own name."""


def spark(values: list[float], low: float = 0.5, high: float = 1.0) -> str:
    """A learning curve as a row of blocks, from chance (0.5) to perfect (1.0).

    >>> spark([0.5, 0.75, 1.0])
    '▁▄█'
    """
    steps = len(SPARKS) - 1
    scaled = (min(max((v - low) / (high - low), 0.0), 1.0) for v in values)
    return "".join(SPARKS[int(s * steps + 0.5 - 1e-9)] for s in scaled)


def clock(seconds: float) -> str:
    """A duration in the two largest fitting units.

    >>> clock(8.4), clock(125), clock(7800)
    ('8s', '2m05s', '2h10m')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"


def number_of(number: int, noun: str) -> str:
    """A number and its noun.

    >>> number_of(1, "image"), number_of(2, "family"), number_of(3, "set of copies")
    ('1 image', '2 families', '3 sets of copies')
    >>> number_of(2, "patient or slide")
    '2 patients or slides'
    """
    first, of, rest = noun.partition(" of ")
    plurals = (f"{word[:-1]}ies" if word.endswith("y") else f"{word}s" for word in first.split(" or "))
    return f"{number:,} {noun if number == 1 else ' or '.join(plurals) + of + rest}"


def short(text: str, most: int = 30) -> str:
    """A name cut where a figure has no room for more."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(name: str) -> str:
    r"""A file's name as text that any file, database and terminal takes, in one line.

    Bytes that are not UTF-8, and control characters, become `\xNN` (`\n`, `\t`), as Python writes them.

    >>> printable("Herz\udcf6dem\n1.png")
    'Herz\\xf6dem\\n1.png'
    """
    if name.isprintable():
        return name
    return "".join(_escaped(c) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in name)


FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What spreadsheets take for the beginning of a formula (OWASP, CSV injection)."""


def as_cell(value: object) -> object:
    """A cell of a CSV file that no spreadsheet takes for a formula: such a text gets an apostrophe.

    >>> as_cell("=HYPERLINK(0)"), as_cell("image.png"), as_cell(-0.5)
    ("'=HYPERLINK(0)", 'image.png', -0.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def harmless(markdown: str) -> str:
    """Markdown of ours in which names of strangers make no HTML, no link and no picture; code stays as it is.

    Our own texts have none of them. A picture of another site would tell that site who looks when.

    >>> harmless("classes: <img src=x>, ![a](http://b)")
    'classes: &lt;img src=x>, ![a]\\\\(http://b)'
    """
    parts = markdown.split("\n```")
    for i in range(0, len(parts), 2):
        for markup, text in (("<", "&lt;"), ("](", "]\\("), ("][", "]\\["), ("]:", "]\\:")):
            parts[i] = parts[i].replace(markup, text)
    return "\n```".join(parts)


def is_utf8(name: str) -> bool:
    """Whether a file's name has no byte that is not UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in name)


def _escaped(character: str) -> str:
    """A lone surrogate stands for a byte that is not UTF-8: see PEP 383."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


STORAGE_GIVEN: ContextVar[str | None] = ContextVar("STORAGE_GIVEN", default=None)
"""The URL given with `--storage` to the running command; None: none was given. The command line sets it."""

ADDRESS_GIVEN: ContextVar[str | None] = ContextVar("ADDRESS_GIVEN", default=None)
"""The address given with `--address` to the running command; as `STORAGE_GIVEN`."""

QUIET: ContextVar[bool] = ContextVar("QUIET", default=False)
"""Whether `-q` was given: no progress and no notes, but results and errors. The command line sets it."""

TAKE_STORAGE = frozenset(
    {
        "run",
        "show",
        "dashboard",
        "confirm",
        "analyze",
        "export",
        "export-runs",
        "submit",
        "evaluate",
        "report",
    }
)
"""Commands with `--storage`."""

TAKE_ADDRESS = frozenset({"run", "confirm"})
"""Commands with `--address`."""


def command(*words: object) -> str:
    """A medfathom command that the user can paste into the shell, for hints.

    It begins as this program was started: with `uv run`, or as `python -m medfathom`. A storage and a Ray
    address that were given to this program are given to the command too, the storage's password hidden.

    Args:
        words: what comes after `medfathom`; each is quoted where the shell needs it.

    >>> command("run", "my study.toml")  # not under `uv run`
    "medfathom run 'my study.toml'"
    """
    return shlex.join([*_program(), *map(str, words), *_storage_option(words), *_address_option(words)])


def _program() -> list[str]:
    if "UV" in os.environ:  # `uv run` sets it to its own path
        return ["uv", "run", "medfathom"]
    if Path(sys.argv[0]).parts[-2:] == ("medfathom", "__main__.py"):
        return [sys.orig_argv[0], "-m", "medfathom"]
    return ["medfathom"] if shutil.which("medfathom") else ["uv", "run", "medfathom"]


def _storage_option(words: Sequence[object]) -> list[str]:
    url = STORAGE_GIVEN.get()
    if url is None or words[0] not in TAKE_STORAGE:
        return []
    from medfathom.urls import shown  # noqa: PLC0415  imports SQLAlchemy

    return ["--storage", shown(url)]


def _address_option(words: Sequence[object]) -> list[str]:
    address = ADDRESS_GIVEN.get()
    return [] if address is None or words[0] not in TAKE_ADDRESS else ["--address", address]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows, a header first, as lines of Markdown; nothing for no rows.

    >>> markdown_table([["a", "b"], ["1", "2"]])
    ['| a | b |', '| --- | --- |', '| 1 | 2 |', '']
    """
    if not rows:
        return []
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{' --- |' * len(rows[0])}", *lines[1:], ""]


def natural(text: object) -> list[tuple[int, int, str]]:
    """A sort key in which numbers count as numbers: `28` comes before `128`."""
    parts = re.split(r"(\d+)", str(text))
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]


def without_shared_prefix(names: Sequence[str]) -> list[str]:
    """Names without the words that all of them begin with.

    >>> without_shared_prefix(["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
    ['lite0', 'lite2']
    """
    different = sorted(set(names))
    if len(different) < 2:
        return list(names)
    ends = enumerate(zip(different[0], different[-1], strict=False))
    shared = different[0][: next((i for i, (a, b) in ends if a != b), len(different[0]))]
    cut = max((match.end() for match in re.finditer(r"[_\W]", shared)), default=0)
    return [name[cut:] for name in names]


def short_strata(strata: Sequence[str]) -> list[str]:
    """Strata in short words, without the words that all their architectures begin with.

    >>> short_strata(["architecture=vgg11 init=imagenet unfreeze_depth=3", "architecture=vgg16 init=random"])
    ['vgg11 · imagenet · depth 3', 'vgg16 · random']
    >>> short_strata([""])  # of a study that compares nothing
    ['the only stratum']
    """
    found = [re.search(r"(?:^| )architecture=(\S+)", name) for name in strata]
    names = [match.group(1) if match else "" for match in found]
    short = dict(zip(names, without_shared_prefix(names), strict=True))
    return [_short(name, short) for name in strata]


def _short(stratum: str, architectures: dict[str, str]) -> str:
    words, paren, rest = stratum.partition(" (")
    parts = (_short_part(part, architectures) for part in re.split(r" (?=\w+=)", words))
    return (" · ".join(parts) or "the only stratum") + paren + rest


def _short_part(part: str, architectures: dict[str, str]) -> str:
    key, equals, value = part.partition("=")
    if not equals:
        return part
    return SHORT_KEYS.get(key, f"{key} ") + (
        architectures.get(value, value) if key == "architecture" else value
    )


def stratum_words(stratum: str) -> str:
    """One stratum in short words.

    >>> stratum_words("architecture=vgg11 init=imagenet unfreeze_depth=3")
    'vgg11 · imagenet · depth 3'
    """
    return short_strata([stratum])[0]
