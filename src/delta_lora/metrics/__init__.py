"""The official metrics of each task family, in the units of the paper's tables, with nothing to install by hand.

Each module has ``score`` (a function), a ``…Metric`` (the same as an ``evaluate.Metric``), a ``…Resampler`` (scores
of any selection of test items, for a paired bootstrap) and ``official`` (the official scorer's names and units).
"""

from delta_lora.metrics.base import Resampler, Scores, SuiteMetric
from delta_lora.metrics.e2e import E2EMetric, E2EResampler
from delta_lora.metrics.glue import GlueMetric, GlueResampler
from delta_lora.metrics.webnlg import WebNLGMetric, WebNLGResampler
from delta_lora.metrics.xsum import XSumMetric, XSumResampler

__all__ = [
    "E2EMetric",
    "E2EResampler",
    "GlueMetric",
    "GlueResampler",
    "Resampler",
    "Scores",
    "SuiteMetric",
    "WebNLGMetric",
    "WebNLGResampler",
    "XSumMetric",
    "XSumResampler",
]
