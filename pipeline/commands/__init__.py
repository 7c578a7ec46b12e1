"""The commands of `alexnet`, one module each. Whatever is slow to import is imported when its command runs."""
