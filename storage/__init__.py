"""Folders of versions, on volumes and in object stores. Knows nothing of the project that uses it."""
