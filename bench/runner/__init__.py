"""What the runner and imports take of a stage's time: README.md beside this file."""
