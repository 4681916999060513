"""Decoding and chat."""
