"""TOML -> `StudyConfig`. Imports pydantic and no more."""
