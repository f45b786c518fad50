"""One run from config to summary; the only place that knows Hydra."""
