"""Similarity transforms, warping and face detection, on points and pictures with known answers."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from hyperface.errors import ModelError
from hyperface.models.alignment import ARCFACE_112, BOX_512, LandmarkAligner, TemplateAligner, similarity, warp
from hyperface.models.detector import FaceDetector
from tests.unit import marker_detector
from tests.unit.marker_detector import AROUND_L2, picture

FFHQ_512 = np.array([[193.0, 239.9], [318.9, 240.2], [256.6, 314.0], [201.3, 371.4], [313.1, 371.2]])


def moved(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def turned(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def smooth(height: int, width: int) -> np.ndarray:
    """A picture that any sampling reads alike."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 / width, y * 255 / height, (x + y) * 127 / width], axis=2).astype(np.uint8)


def test_rotation_scale_and_shift_are_recovered_exactly():
    truth = turned(0.7, 0.31, (-12.0, 40.0))
    np.testing.assert_allclose(similarity(FFHQ_512, moved(FFHQ_512, truth)), truth, atol=1e-10)


def test_the_transform_is_the_least_squares_solution_over_all_similarities():
    rng = np.random.default_rng(0)
    for _ in range(20):
        source, target = rng.normal(0, 50, (5, 2)), rng.normal(0, 50, (5, 2))
        # u = a x - b y + c, v = b x + a y + d, for each landmark, in the unknowns a, b, c, d.
        rows = [row for x, y in source for row in ((x, -y, 1, 0), (y, x, 0, 1))]
        a, b, c, d = np.linalg.lstsq(np.array(rows), target.ravel(), rcond=None)[0]
        np.testing.assert_allclose(similarity(source, target), [[a, -b, c], [b, a, d]], atol=1e-9)


def test_a_mirrored_face_is_not_reflected():
    mirrored = ARCFACE_112 * (-1, 1)
    assert np.linalg.det(similarity(mirrored, ARCFACE_112)[:, :2]) > 0


@pytest.mark.parametrize("bad", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.full((5, 2), np.inf)])
def test_landmarks_in_one_place_or_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match="must be finite and not all in one place"):
        similarity(bad, ARCFACE_112)


def test_the_identity_leaves_a_picture_as_it_is():
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(warp(noise, turned(0, 1, (0, 0)), 32), noise)


@pytest.mark.parametrize(("angle", "scale"), [(0.0, 0.25), (0.5, 0.3), (-0.3, 1.7), (3.0, 0.9)])
def test_a_warped_pixel_shows_what_lies_at_its_place_in_the_picture(angle, scale):
    source, size = smooth(400, 400), 64
    there = turned(angle, scale, (0, 0))
    there[:, 2] = size / 2 - there[:, :2] @ (200, 200)
    warped = warp(source, there, size)
    y, x = np.mgrid[4 : size - 4, 4 : size - 4]
    back = (np.stack([x, y], axis=2) - there[:, 2]) @ np.linalg.inv(there[:, :2]).T
    expected = np.stack([back[..., 0], back[..., 1], back.sum(2) * 127 / 255], axis=2) * 255 / 400
    assert np.abs(warped[4 : size - 4, 4 : size - 4] - expected).max() < 2


def test_fine_stripes_become_grey_in_a_small_crop_and_do_not_alias():
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    for angle in (0.0, 0.2):
        crop = warp(stripes, turned(angle, 0.29, (0, 30)), 112)
        inside = crop[50:90, 20:90]
        assert abs(inside.mean() - 127.5) < 3
        assert inside.std() < 20  # plain bilinear sampling leaves 60


def test_outside_of_the_picture_is_black():
    crop = warp(np.full((20, 20, 3), 200, np.uint8), turned(0, 1, (30, 30)), 64)
    assert (crop[:29] == 0).all()
    assert (crop[31:49, 31:49] == 200).all()


def test_the_template_puts_the_mean_ffhq_face_at_arcfaces_places():
    left, top, side = BOX_512
    scale = 112 / side
    places = (FFHQ_512 + 0.5 - (left, top)) * scale - 0.5
    best = moved(FFHQ_512, similarity(FFHQ_512, ARCFACE_112))
    assert np.abs(places - best).max() < 0.1
    assert np.abs(places - ARCFACE_112).max() < 2.5
    for size in (256, 512, 1024):
        pictures = np.zeros((1, size, size, 3), np.uint8)
        x, y = np.round(FFHQ_512[2] * size / 512).astype(int)
        pictures[0, y - size // 100 : y + size // 100 + 1, x - size // 100 : x + size // 100 + 1] = 255
        [crop] = TemplateAligner(112).align(pictures)
        assert crop.faces == 1
        rows, columns = np.nonzero(crop.image_HWC[..., 0] > 100)
        np.testing.assert_allclose((columns.mean(), rows.mean()), best[2], atol=0.75)


def test_the_template_crop_is_the_box_resized():
    y, x = np.mgrid[:512, :512]
    waves = np.stack([127 + 120 * np.sin(x / 10), 127 + 120 * np.sin(y / 10), x * 0 + 50], axis=2).astype(np.uint8)
    left, top, side = BOX_512
    box = (left, top, left + side, top + side)
    resized = np.asarray(Image.fromarray(waves).resize((112, 112), Image.Resampling.BOX, box))
    [crop] = TemplateAligner(112).align(waves[None])
    assert np.abs(crop.image_HWC.astype(float) - resized).mean() < 1.5  # half a pixel of the crop makes it 9


def test_crops_have_the_recognisers_size_and_the_fingerprint_tells_it():
    pictures = np.stack([smooth(64, 64)] * 2)
    crops = TemplateAligner(48).align(pictures)
    assert [crop.image_HWC.shape for crop in crops] == [(48, 48, 3)] * 2
    assert TemplateAligner(48).fingerprint != TemplateAligner(112).fingerprint


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> FaceDetector:
    return FaceDetector(*marker_detector.make(tmp_path_factory.mktemp("detector") / "d.onnx"))


def test_landmarks_come_back_in_pixels_of_the_picture(detector):
    [face] = detector.detect(picture((3, 4, 128)))
    np.testing.assert_allclose(face, np.array([24, 32]) + AROUND_L2, atol=1e-3)


def test_a_larger_picture_is_scaled_to_the_input_and_landmarks_back(detector):
    large = np.kron(picture((3, 4, 128)), np.ones((3, 3, 1), np.uint8))
    [face] = detector.detect(large)
    np.testing.assert_allclose(face, 3 * (np.array([24, 32]) + AROUND_L2), atol=1e-2)


def test_a_smaller_picture_is_not_enlarged(detector):
    [face] = detector.detect(picture((1, 2, 128), size=40))
    np.testing.assert_allclose(face, np.array([8, 16]) + AROUND_L2, atol=1e-3)


def test_a_dark_picture_has_no_face(detector):
    assert detector.detect(picture()) == []


def test_the_largest_face_comes_first_and_of_equals_the_most_central(detector):
    corners = [np.array([8 * x, 8 * y]) for x, y in ((1, 1), (6, 6), (4, 3))]
    faces = detector.detect(picture((1, 1, 40), (6, 6, 60), (4, 3, 40)))
    np.testing.assert_allclose(faces, [corners[i] + AROUND_L2 for i in (1, 2, 0)], atol=1e-3)


def test_of_two_boxes_on_one_face_the_better_one_stays(detector):
    one = picture((3, 3, 255), (4, 3, 255))
    one[24:32, 32:40, 0] = 200
    [face] = detector.detect(one)
    np.testing.assert_allclose(face, np.array([24, 24]) + AROUND_L2, atol=1e-3)


def test_the_aligner_moves_the_landmarks_to_arcfaces_places(detector):
    aligner = LandmarkAligner(detector, 112)
    drawn = picture((3, 4, 128))
    eye = np.round(np.array([24, 32]) + AROUND_L2[0]).astype(int)
    drawn[eye[1], eye[0], 2] = 255
    two, none, one = aligner.align(np.stack([picture((1, 1, 40), (6, 6, 90)), picture(), drawn]))
    assert (two.faces, none.faces, none.image_HWC, one.faces) == (2, 0, None, 1)
    blue = one.image_HWC[..., 2].astype(float)
    y, x = np.mgrid[:112, :112]
    found = np.array([(x * blue).sum(), (y * blue).sum()]) / blue.sum()
    shown = moved(eye, similarity(np.array([24, 32]) + AROUND_L2, ARCFACE_112))
    np.testing.assert_allclose(found, shown, atol=0.3)
    assert np.abs(found - ARCFACE_112[0]).max() < 3


def test_crops_of_another_size_have_the_places_in_proportion(detector):
    drawn = picture((3, 4, 128))
    large, small = (LandmarkAligner(detector, size).align(drawn[None])[0].image_HWC for size in (224, 112))
    np.testing.assert_allclose(large[::2, ::2].astype(float), small, atol=8)


def test_a_crop_does_not_depend_on_its_batch(detector):
    aligner = LandmarkAligner(detector, 32)
    pictures = np.stack([picture((x, 3, 100)) for x in range(1, 5)])
    together = aligner.align(pictures)
    for i, crop in enumerate(together):
        np.testing.assert_array_equal(crop.image_HWC, aligner.align(pictures[[i]])[0].image_HWC)


def test_a_detector_that_leaves_its_input_open_is_read_at_640_pixels(tmp_path):
    open_sized = FaceDetector(*marker_detector.make(tmp_path / "d.onnx", size="S", batch="N"))
    [face] = open_sized.detect(picture((70, 3, 128), size=640))
    np.testing.assert_allclose(face, np.array([560, 24]) + AROUND_L2, atol=1e-2)


def test_what_is_no_scrfd_model_with_landmarks_is_refused(tmp_path):
    with pytest.raises(ModelError, match="scores, boxes and 5 landmarks"):
        FaceDetector(*marker_detector.make(tmp_path / "a.onnx", landmarks=False))
    with pytest.raises(ModelError, match="a multiple of 32 pixels; it is 72 x 72"):
        FaceDetector(*marker_detector.make(tmp_path / "b.onnx", size=72))
    with pytest.raises(ModelError, match="must take one picture"):
        FaceDetector(*marker_detector.make(tmp_path / "c.onnx", batch=4))


def test_another_detector_file_is_refused_by_its_keys(tmp_path: Path):
    path, sha256 = marker_detector.make(tmp_path / "d.onnx")
    with pytest.raises(ModelError, match=r"set synthesis\.detector_sha256"):
        FaceDetector(path, "0" * 64)
    with pytest.raises(ModelError, match=r"give a local file as synthesis\.detector_path"):
        FaceDetector(path + ".absent", sha256)
    model = onnx.load(path)
    onnx.save(model, tmp_path / "e.onnx")
    assert FaceDetector(path, sha256.upper()).fingerprint == FaceDetector(path, sha256).fingerprint


@pytest.mark.parametrize("spread", [1e-6, 1e5])
def test_landmarks_of_a_size_that_no_face_has_are_no_face_and_cost_no_memory(spread: float):
    class Everywhere:
        fingerprint = "0d" * 32

        def detect(self, picture_HWC: np.ndarray) -> list[np.ndarray]:
            return [AROUND_L2 * spread]

    (crop,) = LandmarkAligner(Everywhere(), 112).align(np.zeros((1, 64, 64, 3), np.uint8))
    assert crop.image_HWC is None
