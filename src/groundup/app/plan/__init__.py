"""`groundup plan`: estimate a run on this machine before it starts."""
