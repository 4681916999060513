"""Commands and servers that use the results."""
