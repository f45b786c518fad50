"""Trains and scores one model: `python train.py norm=rmsnorm init.mean=0.2`, `-m` sweeps."""

import hydra
from omegaconf import DictConfig

from normlab import run


@hydra.main(version_base="1.3", config_path="conf", config_name="train")
def main(cfg: DictConfig) -> None:
    run.main(cfg)


if __name__ == "__main__":
    main()
