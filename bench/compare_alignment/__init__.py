"""The methods of alignment on the same inputs, several seeds each, under a judge that none of them saw.

cells.py     trains: one reward model a seed, one policy a method and seed; finished cells are kept
control.py   PPO with its rewards shuffled, which must gain nothing
score.py     all cells and best-of-n before the gold judge, once
page.py      the tables and the plot of docs/alignment.md, from docs/alignment.json
"""
