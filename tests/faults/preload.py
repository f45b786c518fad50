"""What every child needs, imported once by the server that forks them."""

import hydra  # noqa: F401
import sacrebleu.metrics  # noqa: F401
import tokenizers  # noqa: F401
import torch  # noqa: F401

import normlab.runs.job
import normlab.runs.loaded
import normlab.training.console
import normlab.training.loop  # noqa: F401
from normlab.tasks.translation import grammar, task  # noqa: F401
