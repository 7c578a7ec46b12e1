"""Names of the features, before and after Transform, and of the signature that reads the raw ones."""

# Raw, one value in each example.
IMAGE = "image"  # encoded bytes, PNG or JPEG
LABEL = "label"  # int64 from 0
CLASS_NAME = "class_name"
ID = "id"

# Transformed; the label keeps its name.
PIXELS = "image_raw"  # size * size * 3 bytes

CLASSES_FILE = "assets.extra/classes.json"  # in an exported model: the class names by label, a list
CALIBRATION_FILE = "assets.extra/calibration.json"  # likewise: {"temperature": float}
EVALUATION_SIGNATURE = "serving_examples"  # takes raw examples; TFMA asks it
