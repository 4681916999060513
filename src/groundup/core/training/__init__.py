"""Parts of every trainer: seeds, precision, checkpoints, adapters, progress, cost."""
