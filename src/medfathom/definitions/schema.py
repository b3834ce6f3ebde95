"""What every table of a definition has in common."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A table of a definition: unknown keys and silent conversions are refused, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
