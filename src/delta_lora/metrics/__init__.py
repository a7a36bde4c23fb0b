"""The official metrics of each task family, in the units of the paper's tables, with nothing to install by hand.

Each of `e2e`, `webnlg`, `xsum` and `glue` has ``score`` (a function), a ``…Resampler`` (scores of any selection of test
items, for a paired bootstrap) and ``official`` (the official scorer's names and units); `suite_metric` has them for
``evaluate``.
"""
