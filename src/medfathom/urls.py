"""URLs of storages: read, refused in one line, shown without their passwords."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from medfathom.errors import StorageError

_HEAD = r"^((?:[\w+.=-]*:?/+)?+[^:/]*:)"
"""What stands before the password: the scheme, whole or mistyped, and the user."""
_PASSWORD = re.compile(_HEAD + ".*@")
_PASSWORD_AT_THE_END = re.compile(_HEAD + ".*")
_PASSWORD_OPTION = re.compile("([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)
_ENCODE = "percent-encode @ : / in the password"


def parsed(url: str) -> sa.URL:
    """SQLAlchemy's reading of a URL.

    Raises:
        StorageError: it is none, or a part of its password would be taken for something else.
    """
    try:
        found = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(f"--storage {shown(url)}: not a database URL; such as sqlite:///file.db") from None
    except ValueError:
        raise StorageError(f"--storage {shown(url)}: the port is not a number; {_ENCODE}") from None
    if found.get_backend_name() != "sqlite" and (url.count("@") > 1 or "@" in (found.database or "")):
        raise StorageError(f"--storage {shown(url)}: an @ too many, or too late; {_ENCODE}")
    return found


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases. Raises StorageError as `parsed` does."""
    found = parsed(url)
    return Path(found.database) if found.get_backend_name() == "sqlite" and found.database else None


def shown(url: str) -> str:
    """The URL without its password, as far as one can be made out in what is no URL, or not quite one.

    Up to the last @ everything may be password, and what breaks off before an @ may end in one.
    """
    if url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return url
    hidden = _PASSWORD.sub(r"\1***@", url)
    if "@" not in url and not _is_url(url):
        hidden = _PASSWORD_AT_THE_END.sub(r"\1***", url)
    return _PASSWORD_OPTION.sub(r"\1***", hidden)


def _is_url(text: str) -> bool:
    try:
        sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        return False
    return True
