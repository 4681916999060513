"""lm-evaluation-harness inside evaluate: adapters for our models, our test sets as tasks, and tasks by name."""
