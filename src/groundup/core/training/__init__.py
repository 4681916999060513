"""What every trainer needs: seeds, precision, checkpoints, adapters, progress, cost."""
