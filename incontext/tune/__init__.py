"""Tuning: learn a prompt or a small head from labelled images; the model does not change."""
