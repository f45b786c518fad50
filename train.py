"""Trains and scores one model: `python train.py norm=rmsnorm init.mean=0.2`, `-m` sweeps."""

import sys

from normlab.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
