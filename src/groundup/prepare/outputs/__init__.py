"""One file for each output of prepare."""
