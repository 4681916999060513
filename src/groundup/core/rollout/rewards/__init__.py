"""The terms of a reward."""
