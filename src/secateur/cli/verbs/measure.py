"""`secateur measure`."""

from __future__ import annotations

from secateur import data
from secateur.cli.asked import Measure
from secateur.cli.screen import progress, show_json, show_measures
from secateur.pipeline import remeasure


def run(asked: Measure) -> int:
    """Measure a run again, and show the table."""
    with progress() as report:
        measures = remeasure(asked.run, data.load, report)
    if asked.json:
        show_json(measures)
    else:
        show_measures(measures)
    return 1 if any(budget["met"] is False for budget in measures["budgets"]) else 0
