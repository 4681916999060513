"""Bits per byte against compute, over sizes of the model: README.md beside this file."""
