"""Tables and progress bars for the command lines."""
