"""Text to a byte-level BPE tokenizer and token shards."""
