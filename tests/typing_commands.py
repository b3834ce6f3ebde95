"""A command typed in this process: Ray and torch are started once for all commands of a test."""

from __future__ import annotations

import io
import shlex
import sys
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import pytest

from medfathom import cli


def typed(line: str, *more: object) -> str:
    """What a command that must succeed prints.

    Args:
        line: as printed in a page, with or without `uv run medfathom`.
        more: further arguments.
    """
    words = [*shlex.split(line.removeprefix("uv run medfathom ")), *map(str, more)]
    out, err = io.StringIO(), io.StringIO()
    argv = patch.object(sys, "argv", ["medfathom", *words])
    with redirect_stdout(out), redirect_stderr(err), argv, pytest.raises(SystemExit) as end:
        cli.main()
    assert not end.value.code, f"{words}: {err.getvalue()}{out.getvalue()}"
    return out.getvalue()
