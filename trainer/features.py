"""Names of the features, before and after Transform."""

# Raw, one value in each example.
IMAGE = "image"  # encoded bytes, PNG or JPEG
LABEL = "label"  # int64 from 0
CLASS_NAME = "class_name"

# Transformed; the label keeps its name.
PIXELS = "image_raw"  # size * size * 3 bytes
