"""Who decides about SIGTERM: the caller before Ray, this program where nobody has."""

import signal
from collections.abc import Iterator

import pytest

from medfathom.scheduling.halt import callers_sigterm


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def of_a_job(number: int, frame: object) -> None:
    """What a job's scheduler wants done."""


def of_ray(number: int, frame: object) -> None:
    """What Ray sets when it starts."""


@pytest.mark.parametrize(("before", "after"), [(of_a_job, of_a_job), (signal.SIG_DFL, of_ray)])
def test_ray_takes_sigterm_only_where_nobody_has_it(before: object, after: object) -> None:
    signal.signal(signal.SIGTERM, before)  # type: ignore[arg-type]
    with callers_sigterm():
        signal.signal(signal.SIGTERM, of_ray)
    assert signal.getsignal(signal.SIGTERM) is after
