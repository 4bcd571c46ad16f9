import numpy as np
import pytest
from PIL import Image

from spatialseg.report.sheet import MARGIN, Panel, Words, coloured, draw_panels, heat, map_pixels


def test_ignored_pixels_are_white_and_classes_have_colours():
    mask = np.array([[0, 1], [2, 255]], np.uint8)
    assert map_pixels(np.array([[0.0, 0.5], [1.0, 255]])).tolist()[1] == [[255] * 3, [255] * 3]
    pixels = map_pixels(mask, 3)
    assert pixels[1, 1].tolist() == [255] * 3 and len(np.unique(pixels.reshape(-1, 3), axis=0)) == 4
    probability = np.eye(3, dtype=np.float32)[mask.clip(0, 2)].transpose(2, 0, 1)
    assert np.array_equal(map_pixels(probability, 3)[0], pixels[0])


def test_colours_span_the_range():
    low, high, above = coloured(np.array([[1.0, 2.0, 3.0]]), 1, 2)[0]
    assert low.tolist() == [0] * 3 and high.tolist() == above.tolist() == [255] * 3


@pytest.mark.parametrize("scale", [1, 5])
def test_panels_stand_in_rows_as_high_as_they_need(scale):
    red = np.full((20 * scale, 10 * scale, 3), (255, 0, 0), np.uint8)
    blue = np.full((10 * scale, 20 * scale, 3), (0, 0, 255), np.uint8)
    sheet = np.asarray(draw_panels([[Panel("red", red), Panel("blue", blue)], [Panel("blue", blue)]], width=100))
    left = np.argwhere((sheet == (255, 0, 0)).all(axis=-1))
    assert (np.ptp(left, axis=0) + 1).tolist() == [160, 80]  # no higher than 1.6 times its width
    right = np.argwhere((sheet == (0, 0, 255)).all(axis=-1))
    assert len(right) == 2 * 100 * 50 and left[:, 1].max() < right[right[:, 0] < 160][:, 1].min()
    assert right[:, 1].min() == MARGIN and (sheet[:MARGIN] == 255).all()
    titles = sheet[MARGIN : left[:, 0].min()]
    assert (titles < 100).any()  # something is written there


def test_a_bar_has_the_colours_of_its_panel_and_words_need_no_image():
    values = np.linspace(0, 2, 200).reshape(10, 20)
    words = Words((["Fʷ", "N₊"], ["0.5", "100 pixels"]), "and a note")
    sheet = draw_panels([[heat("error", values, 0, 2), words]], width=120)
    assert isinstance(sheet, Image.Image)
    pixels = np.asarray(sheet)
    top, bottom = coloured(np.array([2.0, 0.0]), 0, 2, "inferno")
    bar = pixels[:, MARGIN + 120 + 5]
    shown = bar[(bar != 255).any(axis=-1)]
    assert shown[0].tolist() == top.tolist() and shown[-1].tolist() == bottom.tolist()
    assert (pixels[:, -60:] < 100).any()


def test_words_beside_a_low_image_do_not_overlap():
    low = Panel("", np.zeros((10, 100, 3), np.uint8))
    words = Words((["N"] * 6, ["1"] * 6), "one line\nand another")
    dark = (np.asarray(draw_panels([[low, words], [low]], width=200))[:, MARGIN + 200 + MARGIN :] < 128).any(
        axis=(1, 2)
    )
    assert (np.diff(dark.astype(int)) == 1).sum() == 8  # lines of text
