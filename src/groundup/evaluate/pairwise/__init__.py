"""Pairwise comparisons of replies: win rates at equal length, and ratings of all checkpoints."""
