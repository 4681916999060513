"""Cleaning, personal data, duplicates, held-out text in train."""
