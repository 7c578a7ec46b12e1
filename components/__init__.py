"""The TFX components that this project adds to TFX's own."""
