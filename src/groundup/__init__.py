"""groundup: raise a foundation model from raw text to an aligned chat assistant."""
