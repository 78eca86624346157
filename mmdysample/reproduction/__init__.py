"""Train and test the rows of the paper's tables, and print the results beside the published numbers."""
