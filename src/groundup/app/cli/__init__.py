"""Commands of `groundup` that have a module of their own."""
