"""The base model, its chat format, optimizers and generation."""
