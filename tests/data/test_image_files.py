import os
import unicodedata
from pathlib import Path

import pytest

from mirip.data.image_files import (
    files_below,
    normalised_path,
    read_file,
    read_image_bytes,
    with_folders_opened,
)
from mirip.errors import ImageError


def test_reads_below_the_root_even_if_the_root_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "sub").mkdir(parents=True)
    (tmp_path / "real" / "sub" / "a.jpg").write_bytes(b"abc")
    (tmp_path / "real" / "inside.jpg").symlink_to("sub/a.jpg")
    (tmp_path / "root").symlink_to("real")
    assert read_image_bytes(tmp_path / "root", "sub/a.jpg") == b"abc"
    assert read_image_bytes(tmp_path / "root", "inside.jpg") == b"abc"


def test_finds_a_name_in_the_other_unicode_form(tmp_path: Path) -> None:
    (tmp_path / "\u1100\u1161.jpg").write_bytes(b"abc")  # decomposed, as macOS writes it
    assert read_image_bytes(tmp_path, "\uac00.jpg") == b"abc"


@pytest.mark.parametrize(
    ("relative", "kind"),
    [
        ("../secret.jpg", "outside"),
        ("sub/../../secret.jpg", "outside"),
        ("sub\\..\\..\\secret.jpg", "outside"),
        ("/etc/passwd", "outside"),
        ("C:\\secret.jpg", "outside"),
        ("leads_out.jpg", "outside"),
        ("folder_out/secret.jpg", "outside"),
        ("nowhere.jpg", "missing"),
        ("dangling.jpg", "missing"),
        ("loop.jpg", "missing"),
        ("sub", "missing"),
        ("pipe", "missing"),
        ("", "missing"),
        (".", "missing"),
        ("a\0b.jpg", "missing"),
        ("x" * 300, "missing"),
    ],
)
def test_refuses_what_is_outside_or_not_there(tmp_path: Path, relative: str, kind: str) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "leads_out.jpg").symlink_to("../secret.jpg")
    (root / "folder_out").symlink_to("..")
    (root / "dangling.jpg").symlink_to("gone.jpg")
    (root / "loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "pipe")
    with pytest.raises(ImageError) as caught:
        read_image_bytes(root, relative)
    assert caught.value.kind == kind


@pytest.mark.parametrize("stored", ["NFC", "NFD", "mixed"])
@pytest.mark.parametrize("asked", ["NFC", "NFD", "mixed"])
def test_finds_each_part_of_a_path_in_any_unicode_form(tmp_path: Path, stored: str, asked: str) -> None:
    def in_form(form: str) -> str:
        if form == "mixed":  # within one name too: a zip of two systems' files
            nfc, nfd = (unicodedata.normalize(each, "학생") for each in ("NFC", "NFD"))
            return f"{nfc}{nfd}/{nfd}{nfc}.jpg"
        return unicodedata.normalize(form, "학생학생/학생학생.jpg")

    path = tmp_path / in_form(stored)
    path.parent.mkdir()
    path.write_bytes(b"abc")
    assert read_image_bytes(tmp_path, in_form(asked)) == b"abc"
    assert read_image_bytes(tmp_path, normalised_path(in_form(asked))) == b"abc"


def test_a_file_that_came_later_is_found(tmp_path: Path) -> None:
    with pytest.raises(ImageError):
        read_image_bytes(tmp_path, "a.jpg")
    (tmp_path / "a.jpg").write_bytes(b"abc")
    assert read_image_bytes(tmp_path, "a.jpg") == b"abc"


def test_a_name_in_other_letters_is_named(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.JPG").write_bytes(b"abc")
    with pytest.raises(ImageError, match=r"is missing.*the folder has IMG_1\.JPG, write the name as it is there"):
        read_image_bytes(tmp_path, "img_1.jpg")


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a file"):
        read_file(tmp_path / "pipe")


def test_lists_the_files_below_a_folder_as_a_table_names_them(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg", "sub/c.jpg", ".hidden.jpg", ".git/d.jpg", unicodedata.normalize("NFD", "가.jpg")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "sub" / "circle").symlink_to(tmp_path)
    assert [normalised_path(str(path)) for path in files_below(tmp_path)] == ["a.jpg", "b.jpg", "가.jpg", "sub/c.jpg"]
    assert all((tmp_path / path).exists() for path in files_below(tmp_path))


def test_a_folder_stands_for_its_images(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", "sub/c.heic"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    given = [tmp_path / "notes.txt", tmp_path]
    names = [path.relative_to(tmp_path).as_posix() for path in with_folders_opened(given)]
    assert names == ["notes.txt", "a.png", "b.JPG", "sub/c.heic"]
    (tmp_path / "empty").mkdir()
    assert list(with_folders_opened([tmp_path / "empty"])) == [tmp_path / "empty"]
    with pytest.raises(ImageError, match="is a folder, not an image file"):
        read_file(tmp_path / "empty")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("./a.jpg", "a.jpg"), ("b\\a.jpg", "b/a.jpg"), ("", ""), ("a//b.jpg", "a/b.jpg"), ("\u1100\u1161.jpg", "가.jpg")],
)
def test_one_path_has_one_form(given: str, expected: str) -> None:
    assert normalised_path(given) == expected


@pytest.mark.parametrize("config", ["default", "config", "config.local", "user"])
def test_a_link_into_the_cache_of_dvc_is_followed(tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `dvc config cache.type symlink` has the files, also in a cache that repositories share."""
    main, home = tmp_path / "main", tmp_path / "home"
    cache = main / ".dvc" / "cache" if config == "default" else tmp_path / "shared"
    for folder in (main / ".dvc", main / "images", cache / "files" / "md5" / "ab", home / "dvc"):
        folder.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(main))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    if config == "user":
        (home / "dvc" / "config").write_text(f"[cache]\n    dir = {cache}\n")
    elif config != "default":
        (main / ".dvc" / config).write_text("[core]\n    analytics = false\n['remote \"a\"']\n    url = b%s\n")
        with (main / ".dvc" / config).open("a") as file:
            file.write("[cache]\n    type = symlink\n    dir = ../../shared\n")
    (cache / "files" / "md5" / "ab" / "cdef").write_bytes(b"content")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (main / "images" / "a.jpg").symlink_to(cache / "files" / "md5" / "ab" / "cdef")
    (main / "images" / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    assert read_image_bytes(main / "images", "a.jpg") == b"content"
    with pytest.raises(ImageError, match="is a link that leads out of"):
        read_image_bytes(main / "images", "b.jpg")


@pytest.mark.parametrize("text", ["no section", "[cache]\ndir", "\xff"])
def test_a_config_of_dvc_that_cannot_be_read_names_no_cache(
    tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc" / "config").write_bytes(text.encode("latin-1"))
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (tmp_path / "images" / "b.jpg").symlink_to(tmp_path / "secret.jpg")
    with pytest.raises(ImageError, match="is a link that leads out of"):
        read_image_bytes(tmp_path / "images", "b.jpg")
