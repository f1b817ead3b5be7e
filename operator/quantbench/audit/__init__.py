"""The rules for figures one can trust, applied to a study that others published.

``markdown`` and ``separated`` read a text into a ``document``; ``tables`` finds variants, metrics and baselines in
it, ``prose`` the claims; ``rules`` applies one module per rule and returns a ``report``. All of it is pure: text in,
report out.
"""
