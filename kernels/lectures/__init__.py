"""The programs that lectures on deep-learning frameworks teach with, in fusec.

``python -m kernels.lectures.lecture1_graph`` runs one; each says what it shows.
"""
