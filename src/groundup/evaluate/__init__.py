"""Held-out evaluation of the base, SFT and aligned models."""
