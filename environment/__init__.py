"""Makes the project's private Python environment.

Standard library only: this runs before anything is installed.
"""
