"""What a training run is told: the types of the config group `trainer`; values are in conf/."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from normlab.types import Count, Few, Natural, Positive


class TrainerSettings(BaseModel):
    """The fields of conf/trainer/default.yaml, where each has its comment."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, frozen=True)

    max_steps: Count | None
    max_epochs: Count | None
    max_minutes: Positive | None
    patience: Count | None
    accumulate: Few
    clip: Positive | None
    log_every: Count
    eval_every: Count
    checkpoint_every: Count
    keep: Count
    average: Natural
    precision: Literal["fp32", "bf16"]
    compile: bool
    device: Literal["auto", "cpu", "cuda"]
    threads: Count | None
    deterministic: bool
    # With a default: runs stored before there were such fields are read.
    per_matrix: bool = False
    samples: Natural = 1

    @model_validator(mode="after")
    def _ends(self) -> "TrainerSettings":
        if (self.max_steps, self.max_epochs, self.max_minutes) == (None, None, None):
            raise ValueError(
                "training would never end: set trainer.max_steps, trainer.max_epochs or "
                "trainer.max_minutes"
            )
        if self.average > self.keep:
            raise ValueError(
                f"trainer.average={self.average} needs as many checkpoints kept, "
                f"but trainer.keep={self.keep}"
            )
        return self
