"""Small data on disk in every layout that users have, and the settings with which the pipeline takes seconds."""

import io
import pickle
import tarfile

import numpy as np
import PIL.Image

# Settings with which the whole pipeline takes seconds on shapes10/small, and nothing stops a model but a test.
SMALL = [
    "training.batch_size=50",
    "training.learning_rate=0.05",
    "model.width=0.1",
    "model.dropout=0",
    "gates.min_accuracy=0",
    "gates.min_class_recall=0",
    "gates.max_accuracy_drop=1",
    "gates.max_class_recall_drop=1",
    "serving.images=3",
    "serving.max_latency_ms=60000",
]
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def picture(seed, size=(32, 32)):
    """uint8 [height, width, 3]: a coloured gradient with noise, different for every seed."""
    random = np.random.default_rng(seed)
    colour = random.integers(0, 200, 3)
    ramp = np.linspace(0, 50, size[1])[None, :, None]
    return (colour + ramp + random.integers(0, 5, (*size, 3))).astype(np.uint8)


def encoded(pixels, form="PNG"):
    """The picture as bytes of an image file."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def write_dark_and_light(file, train, test, size):
    """An .npz file of two classes that brightness alone tells apart: whatever learns at all learns them.

    A test of a training asks no more than this: with which accuracy it ends on harder data, or which of two ends
    higher, is a matter of rounding, which is another on every processor.
    """
    random = np.random.default_rng(0)
    parts = {}
    for split, count in (("train", train), ("test", test)):
        labels = np.arange(count) % 2
        pixels = random.integers(0, 128, (count, size, size, 3)) + 127 * labels[:, None, None, None]
        parts |= {f"x_{split}": pixels.astype(np.uint8), f"y_{split}": labels}
    np.savez(file, **parts)
    return file


def write_folder(root, classes=("cat", "dog"), train=20, test=6, seed=0):
    """A folder of images, half PNG and half JPEG, some of another size."""
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed += 1
                form = ("PNG", "JPEG")[number % 2]
                size = (32, 32) if number % 5 else (40, 48)
                (folder / f"{number:03d}.{form.lower()}").write_bytes(encoded(picture(seed, size), form))
    return root


def batches(per_batch=20):
    """Name -> (labels, pixels uint8 [n, 3072]) of the six batches of an archive."""
    made = {}
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        labels = [n % 10 for n in range(per_batch)]
        pixels = [picture(1000 * number + n).transpose(2, 0, 1).reshape(-1) for n in range(per_batch)]
        made[name] = labels, np.stack(pixels)
    return made


def write_binary(folder, made):
    folder.mkdir(parents=True)
    (folder / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n")
    for name, (labels, pixels) in made.items():
        records = [bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)]
        (folder / f"{name}.bin").write_bytes(b"".join(records))
    return folder


def write_python(folder, made, protocol=2):
    folder.mkdir(parents=True)
    (folder / "batches.meta").write_bytes(pickle.dumps({b"label_names": [c.encode() for c in CLASSES]}, protocol))
    for name, (labels, pixels) in made.items():
        names = [f"{name}_{n}.png".encode() for n in range(len(labels))]
        content = {b"batch_label": name.encode(), b"labels": labels, b"data": pixels, b"filenames": names}
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive
