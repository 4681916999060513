"""Stages are killed at drawn instants; what the next `dvc repro` makes is compared with an uninterrupted run."""
