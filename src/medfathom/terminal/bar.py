"""A progress bar on standard error, a line for each step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress, TaskID

from medfathom.text import QUIET


@contextmanager
def step_bar(*, shown: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Gives what is called with a step, how much of it is done, and of how much."""
    console = Console(stderr=True)
    hidden = not shown or QUIET.get() or not console.is_terminal
    tasks: dict[str, TaskID] = {}
    with Progress(console=console, transient=True, disable=hidden) as progress:

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(step, total=total)
            progress.update(tasks[step], completed=done, total=total)

        yield tell
