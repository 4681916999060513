"""Experiments side by side, by their headline figures."""
