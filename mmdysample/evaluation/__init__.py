"""Metrics: what computes them, and what hands them to mmengine."""
