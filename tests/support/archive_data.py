"""Archives of small data in every form, and ways to damage them."""

import io
import tarfile
import zipfile

from image_data import encoded, picture

TARS = {"tar": "w:", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
ZIPS = {"stored.zip": zipfile.ZIP_STORED, "deflated.zip": zipfile.ZIP_DEFLATED}
FORMS = (*TARS, *ZIPS)


def class_folders(classes=("cat", "dog"), train=3, test=2, top="pets/"):
    """Member name -> content: tiny PNG files in train/<class>/ and test/<class>/."""
    members, seed = {}, 0
    for split, count in (("train", train), ("test", test)):
        for name in classes:
            for number in range(count):
                seed += 1
                members[f"{top}{split}/{name}/{number}.png"] = encoded(picture(seed, (8, 8)))
    return members


def files(folder, top=""):
    """Member name -> content of a folder on disk."""
    found = sorted(file for file in folder.rglob("*") if file.is_file())
    return {top + file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def write(path, members, form=""):
    """Writes `members`, a dict or a list of pairs, in one of `FORMS` (by default the name's); returns the path."""
    pairs = list(members.items() if isinstance(members, dict) else members)
    form = form or next(one for one in (*TARS, "zip") if path.name.endswith(f".{one}"))
    if form in TARS:
        with tarfile.open(path, TARS[form]) as archive:
            for name, content in pairs:
                archive.addfile(*tar_member(name, content))
    else:
        with zipfile.ZipFile(path, "w", ZIPS.get(form, zipfile.ZIP_DEFLATED)) as archive:
            for name, content in pairs:
                archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    return path


def tar_member(name, content, kind=tarfile.REGTYPE, link=""):
    """A header and the content, for `TarFile.addfile`."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, io.BytesIO(content)


def damage(content, random):
    """The bytes with one damage, drawn by `random`, and what it is."""
    at = random.randrange(len(content))
    length = random.choice((1, 16, 512, 4000))
    kind = random.choice(("flip", "cut", "zeros", "ones", "doubled"))
    if kind == "flip":
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :], kind
    if kind == "cut":
        return content[:at], kind
    if kind == "doubled":
        return content[: at + length] + content[at:], kind
    run = (b"\0" if kind == "zeros" else b"\xff") * length
    return content[:at] + run[: len(content) - at] + content[at + length :], kind
