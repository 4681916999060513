"""The pretraining step against the machine's matrix products and a hand-written loop: README.md beside this file."""
