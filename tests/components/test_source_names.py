"""What the plain name of a data source means on the machine of the command line."""

import pytest

from components.sources import names
from core import settings
from core.errors import UserError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a folder or file of each of these names in it."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "My-Photos", "shapes10", "cifar10", "my/images"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "photos.zip").touch()
    return tmp_path


def local(source, **fields):
    return names.local(settings.Data(source=source, **fields))


@pytest.mark.parametrize(
    "source", ["photos", "photos/", "./photos", "My-Photos", "photos.zip", "my/images", "./cifar10", "shapes10/"]
)
def test_what_is_here_is_meant(here, source):
    assert local(source) == (here / source, "")


@pytest.mark.parametrize("source", ["shapes10", "cifar10"])
def test_a_data_set_comes_first_and_a_line_says_so(here, source):
    path, said = local(source)
    assert path is None
    assert said == f"Data: {source} of TensorFlow Datasets; for what is in this folder write ./{source}"


def test_a_data_set_that_is_prepared_comes_first_as_well(here):
    (here / "sets" / "photos" / "1.0.0").mkdir(parents=True)
    assert local("photos", data_dir="sets")[0] == here / "photos"
    (here / "sets" / "photos" / "1.0.0" / "dataset_info.json").touch()
    assert local("photos", data_dir="sets")[0] is None


NAMES = [
    "fotos",
    "mnist",
    "cifar10/3.0.2",
    "shapes10/small",
    "s3://bucket/photos",
    "gs://bucket/photos",
    "az://box/photos",
]


@pytest.mark.parametrize("source", NAMES)
def test_what_is_not_here_is_a_data_set_or_remote(here, source):
    assert local(source) == (None, "")


@pytest.mark.parametrize("source", ["fotos/", "./fotos", "/fotos", "fotos.tar.gz", "fotos.zip", "~/fotos"])
def test_what_can_only_be_a_path_must_be_there(here, monkeypatch, source):
    monkeypatch.setenv("HOME", str(here))
    with pytest.raises(UserError, match=r"The data source /.*fotos.* does not exist"):
        local(source)


def test_the_form_of_a_path_is_the_same_on_every_machine(here):
    """What is compiled for a cluster must not depend on the folder in which that was done."""
    assert not settings.looks_like_path("My-Photos")
    assert not settings.looks_like_path("x" * 5000)
    assert settings.load(**{"data.source": "My-Photos"}).name == "my-photos"
