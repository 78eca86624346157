"""Models as other runtimes run them: what is exported, in which form, and whether it computes the same."""
