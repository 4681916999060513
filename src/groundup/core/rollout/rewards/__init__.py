"""The terms of a reward and their sum."""
