"""Raw sources to clean, deduplicated, split data."""
