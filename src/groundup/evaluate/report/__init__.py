"""The report card as Markdown, one HTML page and pictures of the curves."""
