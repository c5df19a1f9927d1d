"""Run once with labels: which channels belong together."""
