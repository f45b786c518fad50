"""Trains and scores one model: `python train.py norm=rmsnorm init.mean=0.2`, `-m` sweeps."""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from normlab.ranks import quiet_arguments
from normlab.runs import job, sweeps

sweeps.register_resolvers(Path(__file__).parent / "conf")


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    job.main(cfg)


if __name__ == "__main__":
    sys.argv = quiet_arguments(sys.argv)
    main()
