"""The base of every configuration section."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen settings that refuse unknown keys; each field's description documents its key."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
