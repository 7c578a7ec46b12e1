"""Judging a finished run: its results, gates, comparison, history, report, figures, notebook, predictions."""
