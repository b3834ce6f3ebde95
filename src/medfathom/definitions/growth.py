"""A space that became wider: what is new in it."""

from __future__ import annotations

from medfathom.definitions.space import Dimension, Params, SpaceConfig, TrialParams, label


def news_of(before: SpaceConfig, after: SpaceConfig) -> list[str] | None:
    """What a space has that an earlier one had not, a phrase each; None: it is not as wide.

    A hyperparameter that was fixed, or that the earlier space left out, may become a dimension whose values
    hold the value that it had.
    """
    names = dict.fromkeys([*after.dimensions, *before.dimensions])
    found = [_news(name, _dimension(before, name), _dimension(after, name)) for name in names]
    if any(phrase is None for phrase in found) or any(
        _excludes_more(entry, before) for entry in after.exclude
    ):
        return None
    allowed = [f"{label(e)} is no longer excluded" for e in before.exclude if e not in after.exclude]
    return [phrase for phrase in (*found, *allowed) if phrase]


def _dimension(space: SpaceConfig, name: str) -> Dimension:
    """A dimension of the space; one with the default alone where the space leaves it out."""
    known = space.dimensions.get(name)
    return known or Dimension(role="fixed", value=TrialParams.model_fields[name].default)


def _excludes_more(entry: Params, before: SpaceConfig) -> bool:
    """Whether trials of the earlier space may have a combination that is excluded now."""
    return entry not in before.exclude and all(v in before.values(name) for name, v in entry.items())


def _news(name: str, before: Dimension, after: Dimension) -> str | None:
    """A phrase, empty where nothing is new; None: a value is gone, or means another thing."""
    if before.role not in ("fixed", after.role):
        return None
    if after.low is not None and after.high is not None:
        return _wider(name, before, after, after.low, after.high)
    if before.low is not None or any(value not in after.ends for value in before.ends):
        return None
    if new := [str(value) for value in after.ends if value not in before.ends]:
        return f"{name} {', '.join(new)}"
    return "" if before.role == after.role else f"{name} is now {after.role}"


def _wider(name: str, before: Dimension, after: Dimension, low: float, high: float) -> str | None:
    """Of a range, as `_news`."""
    if before == after:
        return ""
    known = [value for value in before.ends if not isinstance(value, str)]
    if not known or before.choices is not None or not low <= min(known) <= max(known) <= high:
        return None
    if before.value is None and before.log != after.log:
        return None
    was = " to ".join(f"{value:g}" for value in known)
    return f"{name} {low:g} to {high:g} (was {was})"
