"""One HTML page of everything that the stages have measured."""
