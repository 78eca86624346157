"""The published numbers of the paper and of the works it compares with: one YAML file per table, and its reader."""
