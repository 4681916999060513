"""Candidates for the built-in gold judge, on the judge split alone.

folds.py         the same pairs and folds for all, and what a candidate is measured by
products.py      the built-in judge and what it would be without its parts
likelihood.py    log p(reply | conversation) - log p(reply), of an n-gram model with a cache and of the base model
cross_encoder.py a small transformer that reads conversation and reply together
page.py          the table
"""
