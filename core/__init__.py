"""What all need: settings and presets, errors, events, files, text, fingerprints, images, the working directory."""
