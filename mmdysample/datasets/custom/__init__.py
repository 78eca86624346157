"""Let a config read its data from a folder of the user."""

from .folder import use_folder
from .places import Split

__all__ = ['Split', 'use_folder']
