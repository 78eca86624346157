"""Metrics by the definitions of the field, where those of the frameworks differ."""
