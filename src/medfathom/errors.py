"""What can go wrong, as one tree.

    MedfathomError            exit 1: failed while running
    ├── RunError              the study, a trial or a service failed
    │   ├── OutOfMemoryError  not even one image at a time fits
    │   └── NodeError         a node cannot take part in the study
    │       ├── OtherDataError       its data are not those that the study was begun on
    │       └── OtherPrecisionError  it cannot train in the study's precision
    └── InputError            exit 2: what the user gave cannot be used; nothing was created
        ├── DefinitionError   a study definition or a piece of search/
        ├── DataError         a data set: files, labels, splits
        ├── HeldOutError      the test split was asked for outside `confirm`
        ├── ModelError        an architecture, an image size, an unfreeze depth
        ├── WeightsError      the weights that an init names
        ├── ExportedModelError  a model folder
        ├── StorageError      an Optuna storage or a study in it
        └── ResultsError      a table of results to analyse

Each message is one line: what, where (file and key), which value, what would do.
"""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 1, 2, 130


class MedfathomError(Exception):
    """Base of every error that is shown to the user as one line."""

    exit_code = EXIT_FAILED


class RunError(MedfathomError):
    """Something failed while running."""


class OutOfMemoryError(RunError):
    """Not even one image at a time fits."""


class NodeError(RunError):
    """A node cannot take part in the study: its trials go to other nodes, and without one the run ends.

    Attributes:
        mend: what to do about it, in words.
    """

    def __init__(self, reason: str, mend: str) -> None:
        super().__init__(f"{reason}; {mend}")
        self.reason = reason
        self.mend = mend


class OtherDataError(NodeError):
    """A worker's data are not those that the study was begun on."""


class OtherPrecisionError(NodeError):
    """A worker cannot train in the precision that the study is trained in."""


class InputError(MedfathomError):
    """What the user gave cannot be used."""

    exit_code = EXIT_BAD_INPUT


class DefinitionError(InputError):
    """A study definition, or a piece of search/ that it names, cannot be used."""


class DataError(InputError):
    """A data set cannot be used."""


class HeldOutError(InputError):
    """The test split was asked for outside `confirm`."""


class ModelError(InputError):
    """An architecture cannot be built as asked."""


class WeightsError(InputError):
    """The weights that an init names are not available."""


class ExportedModelError(InputError):
    """A model folder cannot be used."""


class StorageError(InputError):
    """An Optuna storage, or a study in it, cannot be used."""


class NoStudyError(StorageError):
    """The storage has no study of that name, or is not there yet."""


class ResultsError(InputError):
    """A table of results cannot be analysed."""


def cause_of(error: BaseException) -> str:
    """The first line of what caused an error, or of the error itself: a database's own words."""
    return str(error.__cause__ or error).splitlines()[0]


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_RIGHT = {errno.EROFS, errno.EACCES, errno.EPERM}


def of_a_file(error: OSError) -> str:
    """What the system says of a file or folder, as one line.

    >>> of_a_file(OSError(errno.EROFS, "Read-only file system", "storage/logs"))
    'storage/logs: Read-only file system; give a folder that can be written to, or change its rights'
    """
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    if error.errno in _NO_ROOM:
        return f"{said}; make room on that disk, then give the same command again"
    if error.errno in _NO_RIGHT:
        return f"{said}; give a folder that can be written to, or change its rights"
    return f"{said}; check that this path is as it should be" if error.filename else said


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The nearest known names, then (where they are few) all of them, as the end of an error's line.

    >>> did_you_mean("resnet5", ["resnet18", "resnet50", "vgg16"])
    "did you mean 'resnet50' or 'resnet18'? Known: resnet18, resnet50, vgg16"
    """
    names = sorted(set(known))
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    question = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else ""
    listing = f"Known: {', '.join(names)}" if len(names) <= 20 else f"{len(names)} names are known"
    return f"{question} {listing}".strip()
