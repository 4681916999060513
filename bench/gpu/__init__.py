"""What a GPU computes of groundup, how fast, and whether twice the same: python -m bench.gpu."""
