"""Our prepare against datatrove's local executor: README.md beside this file."""
