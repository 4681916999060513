"""Our sampling loop against transformers' generate: README.md beside this file."""
