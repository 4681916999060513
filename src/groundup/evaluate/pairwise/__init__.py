"""Two replies to one conversation, and which is better: win rates at equal length and ratings of all checkpoints."""
