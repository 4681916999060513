"""lm-evaluation-harness inside evaluate: our models as it sees them, our test sets as its tasks, tasks by name."""
