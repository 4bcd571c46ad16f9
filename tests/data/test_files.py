"""Reading and checking single files: every kind of file that people have, and every way it can be broken."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from spatialseg.data import DataError
from spatialseg.data.files import find_root, list_images, read_image, read_map, read_mask, stem

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def save(array, path, **options):
    Image.fromarray(array).save(path, **options)
    return path


def png16(path, channels):
    """Write a 16-bit PNG (H, W, 3) byte by byte: Pillow itself cannot."""
    height, width, _ = channels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in channels)

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


class TestReadImage:
    def test_rgb_is_what_was_saved(self, tmp_path):
        np.testing.assert_array_equal(read_image(save(RGB, tmp_path / "a.png")), RGB)

    def test_greyscale_has_three_equal_channels(self, tmp_path):
        grey = RGB[..., 0]
        np.testing.assert_array_equal(read_image(save(grey, tmp_path / "a.png")), np.stack([grey] * 3, -1))

    def test_one_bit(self, tmp_path):
        Image.fromarray(RGB[..., 0] > 127).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 1], (RGB[..., 0] > 127) * 255)

    def test_alpha_is_dropped(self, tmp_path):
        rgba = np.dstack([RGB, np.full((6, 9), 7, np.uint8)])
        np.testing.assert_array_equal(read_image(save(rgba, tmp_path / "a.png")), RGB)
        np.testing.assert_array_equal(read_image(save(rgba[..., 2:], tmp_path / "b.png"))[..., 0], RGB[..., 2])

    def test_palette_gives_its_colours(self, tmp_path):
        image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
        image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
        image.save(tmp_path / "a.png", transparency=1)
        expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)

    def test_sixteen_bit_grey_is_scaled_not_cut(self, tmp_path):
        ramp = np.linspace(0, 65535, 54).round().astype(np.uint16).reshape(6, 9)
        expected = np.round(ramp / 65535 * 255)
        for suffix in ("png", "tif"):
            np.testing.assert_array_equal(read_image(save(ramp, tmp_path / f"a.{suffix}"))[..., 2], expected)

    def test_sixteen_bit_colour_is_scaled(self, tmp_path):
        deep = np.random.default_rng(1).integers(0, 65536, (6, 9, 3), np.uint16)
        read = read_image(png16(tmp_path / "a.png", deep))
        assert np.abs(read - deep / 257.0).max() <= 1

    def test_cmyk(self, tmp_path):
        cmyk = Image.new("CMYK", (4, 4), (255, 0, 0, 0))  # all cyan
        cmyk.save(tmp_path / "a.jpg", quality=100)
        red, green, blue = read_image(tmp_path / "a.jpg").reshape(-1, 3).mean(0)
        assert red < 5 and green > 250 and blue > 250

    @pytest.mark.parametrize(
        ("orientation", "turned"),
        [
            (1, lambda x: x),
            (2, lambda x: x[:, ::-1]),
            (3, lambda x: x[::-1, ::-1]),
            (4, lambda x: x[::-1]),
            (5, lambda x: x.swapaxes(0, 1)),
            (6, lambda x: np.rot90(x, -1)),
            (7, lambda x: x[::-1, ::-1].swapaxes(0, 1)),
            (8, lambda x: np.rot90(x)),
        ],
    )
    def test_exif_orientation_is_applied(self, tmp_path, orientation, turned):
        image = Image.fromarray(RGB)
        exif = image.getexif()
        exif[0x0112] = orientation
        image.save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), turned(RGB))

    def test_floating_point_is_refused_by_name(self, tmp_path):
        save(np.ones((3, 3), np.float32), tmp_path / "deep.tif")
        with pytest.raises(DataError, match=r"deep\.tif: floating-point"):
            read_image(tmp_path / "deep.tif")

    def test_thirty_two_bits_are_refused_by_name(self, tmp_path):
        save(np.full((3, 3), 70000, np.int32), tmp_path / "deep.tif")
        with pytest.raises(DataError, match=r"deep\.tif: values 70000 to 70000 do not fit 16 bits"):
            read_image(tmp_path / "deep.tif")

    @pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
    @pytest.mark.parametrize("left", [0, 1, 0.5, 0.9])
    def test_truncated_files_are_named(self, tmp_path, suffix, left):
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        whole = save(noise, tmp_path / f"whole.{suffix}").read_bytes()
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(whole[: left if left in (0, 1) else int(len(whole) * left)])
        with pytest.raises(DataError, match=r"cut\.\w+: " + ("the file is empty" if left == 0 else "cannot be read")):
            read_image(cut)

    def test_missing_and_not_an_image(self, tmp_path):
        with pytest.raises(DataError, match=r"gone\.png: no such file"):
            read_image(tmp_path / "gone.png")
        (tmp_path / "page.png").write_text("<html>not found</html>")
        with pytest.raises(DataError, match=r"page\.png: cannot be read"):
            read_image(tmp_path / "page.png")


class TestReadMask:
    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(grey=hnp.arrays(np.uint8, (5, 7)))
    def test_binary_is_above_127(self, tmp_path, grey):
        grey[0, :2] = 0, 200  # a soft mask: values on both sides
        np.testing.assert_array_equal(read_mask(save(grey, tmp_path / "a.png"), 1), grey > 127)

    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(mask=hnp.arrays(np.uint8, (5, 7), elements=st.integers(0, 1)), top=st.sampled_from([1, 255]))
    def test_binary_of_two_values(self, tmp_path, mask, top):
        np.testing.assert_array_equal(read_mask(save(mask * top, tmp_path / "a.png"), 1), mask)

    @settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(index=hnp.arrays(np.uint8, (5, 7), elements=st.sampled_from([0, 1, 2, 3, 255])))
    def test_class_indices_come_back(self, tmp_path, index):
        np.testing.assert_array_equal(read_mask(save(index, tmp_path / "a.png"), 4), index)

    def test_one_bit(self, tmp_path):
        Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
        assert read_mask(tmp_path / "a.png", 1).tolist() == [[1, 0]]

    def test_palette_holds_class_indices(self, tmp_path):
        index = np.array([[0, 1, 2, 255]], np.uint8)
        image = Image.fromarray(index, "P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + 247 * [9, 9, 8])
        image.save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 3), index)

    def test_binary_palette_in_either_order(self, tmp_path):
        """An optimiser may put white first: the colour counts, where it is grey, and else the index."""
        for palette, expected in (
            ([0] * 3 + [255] * 3, [0, 1]),
            ([255] * 3 + [0] * 3, [1, 0]),
            ([0, 0, 0, 128, 0, 0], [0, 1]),
        ):
            image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
            image.putpalette(palette)
            image.save(tmp_path / "a.png")
            assert read_mask(tmp_path / "a.png", 1).tolist() == [expected]

    def test_sixteen_bits(self, tmp_path):
        assert read_mask(save(np.array([[0, 2, 255]], np.uint16), tmp_path / "a.png"), 3).tolist() == [[0, 2, 255]]
        assert read_mask(save(np.array([[0, 65535]], np.uint16), tmp_path / "b.png"), 1).tolist() == [[0, 1]]
        assert read_mask(save(np.array([[0, 1]], np.uint16), tmp_path / "c.png"), 1).tolist() == [[0, 1]]

    def test_grey_rgb_is_accepted_and_colour_refused(self, tmp_path):
        grey = np.repeat(np.array([[[0], [255]]], np.uint8), 3, axis=2)
        assert read_mask(save(grey, tmp_path / "a.png"), 1).tolist() == [[0, 1]]
        with pytest.raises(DataError, match=r"b\.png: a colour image; a mask has one channel.*white on black"):
            read_mask(save(RGB, tmp_path / "b.png"), 1)
        with pytest.raises(DataError, match=r"b\.png: a colour image; a mask has one channel.*class index"):
            read_mask(tmp_path / "b.png", 4)

    @pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK", "F"])
    def test_alpha_and_other_modes_are_refused_by_name(self, tmp_path, mode):
        Image.new(mode, (4, 4)).save(tmp_path / "a.tif")
        with pytest.raises(DataError, match=rf"a\.tif: .*mode {mode}"):
            read_mask(tmp_path / "a.tif", 1)

    def test_values_outside_the_classes_are_named(self, tmp_path):
        mask = save(np.array([[0, 1, 3, 9, 255]], np.uint8), tmp_path / "a.png")
        with pytest.raises(
            DataError, match=r"a\.png: values 3, 9 outside the 3 classes \(0 to 2, or 255 for ignored\)"
        ):
            read_mask(mask, 3)

    @pytest.mark.parametrize("values", [[0, 2], [0, 1, 2], [0, 1, 255], [0, 15, 255], [7, 7]])
    def test_class_indices_are_no_binary_mask(self, tmp_path, values):
        """Read as binary they would be empty, or have the ignored border as foreground."""
        mask = save(np.array([values], np.uint8), tmp_path / "a.png")
        with pytest.raises(
            DataError, match=rf"a\.png: values? {', '.join(map(str, sorted(set(values))))}, as class indices have"
        ):
            read_mask(mask, 1)

    @pytest.mark.parametrize("threshold", [127, 128])
    def test_the_threshold_of_grey_levels(self, tmp_path, threshold):
        grey = save(np.array([[0, 50, 127, 128, 129, 255]], np.uint8), tmp_path / "a.png")
        assert read_mask(grey, 1, threshold).tolist() == [[0, 0, 0, threshold < 128, 1, 1]]
        ones = save(np.array([[0, 1]], np.uint8), tmp_path / "b.png")
        assert read_mask(ones, 1, threshold).tolist() == [[0, 1]]

    def test_jpeg(self, tmp_path):
        disc = (np.hypot(*np.mgrid[-20:20, -20:20]) < 12).astype(np.uint8)
        assert (read_mask(save(disc * 255, tmp_path / "a.jpg"), 1) != disc).mean() < 0.01
        with pytest.raises(DataError, match=r"a\.jpg: JPEG blends class indices"):
            read_mask(tmp_path / "a.jpg", 3)

    def test_orientation_is_applied(self, tmp_path):
        mask = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
        image = Image.fromarray(mask)
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 1), np.rot90(mask, -1))


class TestReadMap:
    def test_grey_levels_come_back_from_every_kind_of_file(self, tmp_path):
        grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
        opaque = np.dstack([grey, np.full_like(grey, 255)])
        save(grey.astype(np.uint16) * 257, tmp_path / "deep.png")
        save(grey.astype(np.uint16) * 257, tmp_path / "deep.tif")
        for mode in ("L", "RGB", "RGBA", "P"):
            Image.fromarray(grey).convert(mode).save(tmp_path / f"{mode}.png")
        save(opaque, tmp_path / "LA.png")
        for path in tmp_path.iterdir():
            read = read_map(path)
            assert read.dtype == np.uint8 and read.flags.writeable
            np.testing.assert_array_equal(read, grey, err_msg=path.name)

    def test_sixteen_bits_are_cut_to_the_upper_eight(self, tmp_path):
        deep = np.array([[0, 255, 256, 32767, 32768, 65535]], np.uint16)
        assert read_map(save(deep, tmp_path / "a.png")).tolist() == [[0, 0, 1, 127, 128, 255]]

    def test_one_bit_is_black_and_white(self, tmp_path):
        Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
        assert read_map(tmp_path / "a.png").tolist() == [[255, 0]]

    def test_levels_of_zero_and_one_stay_what_they_are(self, tmp_path):
        """The map of a network that found nothing is nearly black, not white where it is not."""
        assert read_map(save(np.array([[0, 1]], np.uint8), tmp_path / "a.png")).tolist() == [[0, 1]]

    def test_floating_point_probabilities(self, tmp_path):
        read = read_map(save(np.array([[0, 0.25, 1]], np.float32), tmp_path / "a.tif"))
        assert read.dtype == np.float32 and read.tolist() == [[0, 0.25, 1]]

    @pytest.mark.parametrize("values", [[0, 255], [-0.1, 0.5], [0.5, np.nan], [0, np.inf]])
    def test_other_floating_point_values_are_refused(self, tmp_path, values):
        save(np.array([values], np.float32), tmp_path / "a.tif")
        with pytest.raises(DataError, match=r"a\.tif: floating-point values .* to .*; probabilities are in \[0, 1\]"):
            read_map(tmp_path / "a.tif")

    def test_colour_and_transparency_are_refused(self, tmp_path):
        with pytest.raises(DataError, match=r"heat\.png: a colour image; a map has one channel"):
            read_map(save(RGB, tmp_path / "heat.png"))
        palette = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        palette.putpalette([0, 0, 0, 128, 0, 0])
        palette.save(tmp_path / "palette.png")
        with pytest.raises(DataError, match=r"palette\.png: a colour image"):
            read_map(tmp_path / "palette.png")
        with pytest.raises(DataError, match=r"clear\.png: mode RGBA \(transparency"):
            read_map(save(np.dstack([RGB[..., :1]] * 4), tmp_path / "clear.png"))


class TestAnyFile:
    @pytest.mark.parametrize("read", [read_image, read_map, lambda path: read_mask(path, 1)])
    def test_a_decompression_bomb_is_refused_by_name(self, tmp_path, read):
        """900 million pixels in less than 200 bytes: nothing is decoded."""

        def chunk(kind, content):
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0))
        bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(bomb)
        with pytest.raises(DataError, match=r"bomb\.png: too large to be decoded safely .*900000000 pixels"):
            read(tmp_path / "bomb.png")

    @pytest.mark.filterwarnings("ignore::UserWarning:PIL")
    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "bmp", "tif", "webp", "pgm"]))
    def test_damaged_files_are_read_or_refused(self, tmp_path, data, suffix):
        whole = bytearray(save(RGB[..., 0], tmp_path / f"whole.{suffix}").read_bytes())
        for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=8)):
            whole[place] = data.draw(st.integers(0, 255))
        path = tmp_path / f"damaged.{suffix}"
        path.write_bytes(whole)
        for read in (read_image, read_map, lambda path: read_mask(path, 1), lambda path: read_mask(path, 5)):
            try:
                assert read(path).ndim >= 2
            except DataError as error:
                assert str(path) in str(error)


class TestFinding:
    def test_relative_roots_are_searched_in_order(self, tmp_path, monkeypatch):
        work = tmp_path / "project"
        work.mkdir()
        monkeypatch.chdir(work)
        monkeypatch.setenv("SPATIALSEG_DATA", str(tmp_path / "env"))
        places = [tmp_path / "shared/data/birds", work / "data/birds", tmp_path / "env/birds", work / "birds"]
        for place in places:  # each is preferred to those before it
            place.mkdir(parents=True)
            assert find_root("birds").resolve() == place.resolve()

    def test_a_missing_root_lists_the_places(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("SPATIALSEG_DATA", "/elsewhere")
        with pytest.raises(DataError) as error:
            find_root("birds")
        for place in (tmp_path / "birds", "/elsewhere/birds", tmp_path / "data/birds", "../shared/data/birds"):
            assert str(place) in str(error.value)

    def test_only_the_suffixes_of_images_are_dropped(self):
        assert [stem(name) for name in ("a.b.JPG", "a.b", "a.png", ".png")] == ["a.b", "a.b", "a", ".png"]

    def test_listing(self, tmp_path):
        (tmp_path / "sub/.hidden").mkdir(parents=True)
        for name in (
            "b.png",
            "a.JPEG",
            ".c.png",
            "._a.JPEG",
            "notes.txt",
            "Thumbs.db",
            "LICENSE",
            "sub/d.v2.tif",
            "sub/.hidden/e.png",
        ):
            (tmp_path / name).touch()
        found, problems = list_images(tmp_path)
        assert list(found) == ["a", "b", "sub/d.v2"] and not problems
        (tmp_path / "sub/moving.GIF").touch()
        (tmp_path / "phone.heic").touch()
        (message,) = list_images(tmp_path)[1]
        assert f"{tmp_path} holds files of a format that is not read, 2: phone.heic, sub/moving.GIF" in message
        (tmp_path / "a.png").touch()
        assert "two files of one name" in list_images(tmp_path)[1][0]
