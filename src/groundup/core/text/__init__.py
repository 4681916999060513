"""Words, personal data and planted secrets in text."""
