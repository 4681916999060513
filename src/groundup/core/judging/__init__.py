"""The judge of replies, statistics and plots."""
