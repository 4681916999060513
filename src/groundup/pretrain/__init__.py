"""Token shards to a base model."""
