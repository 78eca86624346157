"""The published numbers, one YAML file per table, and their reader."""
