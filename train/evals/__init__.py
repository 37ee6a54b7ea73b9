"""Evaluation: baselines, episodes' scores, tables and sheets."""
