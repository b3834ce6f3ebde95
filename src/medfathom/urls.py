"""URLs of storages: read, refused in one line, shown without their passwords."""

from __future__ import annotations

import re
from pathlib import Path

import sqlalchemy as sa

from medfathom.errors import StorageError

HIDDEN = "***"
"""What stands where a password was."""
_HEAD = r"^((?:[\w+.=-]*:?/+)?+[^:/]*:)"
"""What comes before the password: the scheme (also a mistyped one), the user and a colon."""
_PASSWORD = re.compile(_HEAD + ".*@")
_PASSWORD_AT_THE_END = re.compile(_HEAD + ".*")
_PASSWORD_OPTION = re.compile(r"([?&][^=&\s]*pass[^=&\s]*=)[^&\s]*", re.IGNORECASE)
_IN_A_TEXT = re.compile(r"(\w+://[^\s/@:]*:)\S*@")
_ENCODE = "percent-encode @ : / in the password"


def parsed(url: str) -> sa.URL:
    """Parse a URL as SQLAlchemy does.

    Raises:
        StorageError: this is no URL, or a character of its password would be read as something else.
    """
    try:
        found = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise StorageError(f"--storage {shown(url)}: not a database URL; such as sqlite:///file.db") from None
    except ValueError:
        raise StorageError(f"--storage {shown(url)}: the port is not a number; {_ENCODE}") from None
    if found.get_backend_name() != "sqlite" and (url.count("@") > 1 or "@" in (found.database or "")):
        raise StorageError(f"--storage {shown(url)}: one @ is allowed, before the host; {_ENCODE}")
    return found


def sqlite_file(url: str) -> Path | None:
    """The file of a SQLite URL; None for other databases. Raises StorageError as `parsed` does."""
    found = parsed(url)
    return Path(found.database) if found.get_backend_name() == "sqlite" and found.database else None


def shown(url: str) -> str:
    """The URL with *** instead of its password, to be printed.

    A mistyped URL hides too much rather than too little: all text from the user to the last @ is taken for
    the password, and where there is no @, all text after the user.
    """
    if url.startswith(("sqlite:", "sqlite+pysqlite:")):
        return url
    hidden = _PASSWORD.sub(r"\1***@", url)
    if "@" not in url and not _is_url(url):
        hidden = _PASSWORD_AT_THE_END.sub(r"\1***", url)
    return _PASSWORD_OPTION.sub(r"\1***", hidden)


def without_passwords(text: str) -> str:
    """A text of others (a library's error) with *** instead of the passwords of the URLs in it.

    >>> without_passwords("no answer from s3://me:pa@ss@host/x, sftp://you@host")
    'no answer from s3://me:***@host/x, sftp://you@host'
    """
    return _PASSWORD_OPTION.sub(r"\1***", _IN_A_TEXT.sub(r"\1***@", text))


def _is_url(text: str) -> bool:
    try:
        sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        return False
    return True
