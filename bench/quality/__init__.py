"""Bits per byte after so many seconds of training: README.md beside this file."""
