"""From run directories to tables and figures: reads files, imports neither torch nor training."""
