"""Pictures and tables of models, for the command lines in ``tools/``; no model imports this."""
