"""One run from config to summary; with train.py the only place that knows Hydra."""
