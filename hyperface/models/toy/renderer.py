"""Procedural faces: identity traits x nuisance -> 64 x 64 RGB. The ground truth of the toy world.

A head is a rounded cylinder of elliptical sections, posed by yaw, pitch and roll and hit by parallel rays in closed
form; features are painted on its surface (features.py), lit by one lamp, and set before hair, neck, clothes and a
backdrop. Identity never changes with nuisance and nuisance says nothing about identity, which no photographed set can
promise.

Shape legend: B images, I = IDENTITY_DIM, N = NUISANCE_DIM, H = W = IMAGE_SIZE. A plane is [B, 1, H, W].
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hyperface.models.toy import features
from hyperface.models.toy.features import Surface, Traits, edge, over, rgb

IMAGE_SIZE = 64

IDENTITY_TRAITS = (
    "face_width", "face_height", "jaw_taper", "chin_square", "chin_cleft", "cheekbone", "skin_light",
    "skin_warm", "blush", "folds", "freckles", "mole", "eye_spacing", "eye_height", "eye_width", "eye_open",
    "eye_tilt", "lid", "iris_hue", "iris_light", "brow_thick", "brow_height", "brow_slope", "brow_arch",
    "brow_dark", "nose_length", "nose_width", "nose_relief", "nose_tip_up", "mouth_height", "mouth_width",
    "upper_lip", "lower_lip", "lip_red", "hair_light", "hair_red", "hairline", "hair_peak", "hair_part",
    "hair_volume", "hair_length", "curl", "beard", "moustache", "ear_size",
)  # fmt: skip
NUISANCE_TRAITS = (
    "yaw", "pitch", "roll", "zoom", "shift_x", "shift_y", "smile", "mouth_open", "blink", "gaze", "brow_raise",
    "light_azimuth", "light_height", "ambient", "warmth", "back_red", "back_green", "back_blue", "back_fade",
    "cloth_red", "cloth_green", "cloth_blue", "blur", "contrast", "noise",
)  # fmt: skip
IDENTITY_DIM = len(IDENTITY_TRAITS)
NUISANCE_DIM = len(NUISANCE_TRAITS)

# Eight images keep a canvas (3 planes of 64 x 64 float32 each) and its temporaries inside a core's second-level cache.
_CHUNK = 8
_DEPTH = 0.62


def sample_identities(count: int, seed: int) -> np.ndarray:
    """Draw identities uniformly from the box of traits.

    Returns float32 [count, IDENTITY_DIM] in [-1, 1]. The first k rows do not depend on `count`.
    """
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 1.0, (count, IDENTITY_DIM)).astype(np.float32)


def sample_nuisance(seeds_B: Sequence[int], strength: float = 1.0) -> np.ndarray:
    """Draw pose, expression, light and camera: row i depends on seeds_B[i] only.

    Returns float32 [B, NUISANCE_DIM]: standard normal, cut at 2.5, times `strength` (0 is the frontal neutral view).
    """
    rows = [np.random.default_rng((int(seed), 1)).standard_normal(NUISANCE_DIM) for seed in seeds_B]
    drawn_BN = np.array(rows, dtype=np.float32).reshape(len(rows), NUISANCE_DIM)
    return drawn_BN.clip(-2.5, 2.5) * np.float32(strength)


@torch.no_grad()
def render(identities_BI: np.ndarray, nuisance_BN: np.ndarray, seeds_B: Sequence[int]) -> np.ndarray:
    """Render faces.

    identities_BI: float32 [B, IDENTITY_DIM] in [-1, 1]; nuisance_BN: float32 [B, NUISANCE_DIM]; seeds_B: B integers
    >= 0 that choose the sensor noise. Returns uint8 [B, 64, 64, 3] RGB. Image i depends on row i of its inputs only.
    Raises ValueError when the inputs disagree in length or width.
    """
    count = len(identities_BI)
    if (
        identities_BI.shape != (count, IDENTITY_DIM)
        or nuisance_BN.shape != (count, NUISANCE_DIM)
        or len(seeds_B) != count
    ):
        raise ValueError(
            f"render: expected identities [B, {IDENTITY_DIM}], nuisance [B, {NUISANCE_DIM}] and B seeds, got "
            f"{identities_BI.shape}, {nuisance_BN.shape} and {len(seeds_B)} seeds; draw them with sample_identities "
            "and sample_nuisance"
        )
    images_BHWC = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        identities = torch.from_numpy(np.ascontiguousarray(identities_BI[part], dtype=np.float32))
        nuisance = torch.from_numpy(np.ascontiguousarray(nuisance_BN[part], dtype=np.float32))
        pixels_BHWC = draw(identities, nuisance).permute(0, 2, 3, 1).numpy() * 255.0
        sigma_B = 0.7 + 0.3 * nuisance_BN[part, NUISANCE_TRAITS.index("noise")].clip(-2.0, 2.0)
        for row, seed in enumerate(seeds_B[part]):
            grain = np.random.default_rng((int(seed), 2)).standard_normal((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
            images_BHWC[start + row] = np.clip(pixels_BHWC[row] + sigma_B[row] * grain + 0.5, 0.0, 255.0)
    return images_BHWC


def draw(identities_BI: Tensor, nuisance_BN: Tensor) -> Tensor:
    """Render without sensor noise and quantisation: float32 [B, 3, 64, 64] in [0, 1]."""
    face = _named(identities_BI, IDENTITY_TRAITS)
    pose = _named(nuisance_BN, NUISANCE_TRAITS)
    x, y = _camera(pose)
    head, cover = _pose_head(x, y, face, pose)
    skin, hair = features.skin_colour(face), features.hair_colour(face)
    light = _lamp(pose)
    canvas = _backdrop(pose)
    canvas = _back_hair(canvas, x, y, face, pose, hair)
    canvas = _body(canvas, x, y, face, pose, skin)
    canvas = _ears(canvas, x, y, face, pose, skin)
    canvas = over(canvas, cover, _lit_head(head, face, pose, skin, hair, light))
    return _develop(canvas, pose)


def _named(values_BK: Tensor, names: tuple[str, ...]) -> Traits:
    columns = values_BK.t().reshape(len(names), -1, 1, 1, 1)
    return dict(zip(names, columns.unbind(0), strict=True))


def _camera(pose: Traits) -> tuple[Tensor, Tensor]:
    """Pixel centres in head units after shift, zoom and roll; y up."""
    line = (torch.arange(IMAGE_SIZE) + 0.5) * (2.0 / IMAGE_SIZE) - 1.0
    zoom = 1.0 + 0.025 * pose["zoom"]
    x = (line.view(1, 1, 1, -1) - 0.015 * pose["shift_x"]) / zoom
    y = (-line.view(1, 1, -1, 1) - 0.03 - 0.015 * pose["shift_y"]) / zoom
    cos, sin = torch.cos(0.05 * pose["roll"]), torch.sin(0.05 * pose["roll"])
    return cos * x + sin * y, cos * y - sin * x


def _turn(pose: Traits) -> tuple[Tensor, Tensor]:
    """Yaw and pitch, radians: at most 0.65 and 0.30."""
    return 0.26 * pose["yaw"], 0.12 * pose["pitch"]


def _outline(v: Tensor, face: Traits) -> tuple[Tensor, Tensor, Tensor]:
    """Half width of the skull at height v, the profile that ends it (1 at crown and chin) and its slope."""
    crown, chin = 0.745, 0.700 + 0.055 * face["face_height"]
    power = 2.35 + 0.75 * face["chin_square"]
    up, down = (v / crown).clamp(min=1e-3), (-v / chin).clamp(min=1e-3)
    rise, fall = up.pow(2.4), down.pow(power)
    profile = rise + fall
    slope = 2.4 * rise / (up * crown) - power * fall / (down * chin)
    taper = 0.20 + 0.14 * face["jaw_taper"]
    width = (0.545 + 0.050 * face["face_width"]) * (1.0 - taper * down.clamp(max=1.0).square())
    return width, profile, slope


def _pose_head(x: Tensor, y: Tensor, face: Traits, pose: Traits) -> tuple[Surface, Tensor]:
    """Return the surface where each ray meets the head, and the share of each pixel that the head covers."""
    yaw, pitch = _turn(pose)
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    # Pitch needs the depth before the depth is known: the depth of a plain ellipsoid is near enough.
    guess = _DEPTH * (1.0 - (x / 0.56).square() - (y / 0.73).square()).clamp(min=0.0).sqrt()
    v = torch.cos(pitch) * y + torch.sin(pitch) * guess
    width, profile, slope = _outline(v, face)
    a2, c2 = width.square(), _DEPTH**2
    quad_a = sin.square() / a2 + cos.square() / c2
    quad_b = x * sin * cos * (1.0 / c2 - 1.0 / a2)
    quad_c = x.square() * (cos.square() / a2 + sin.square() / c2) - (1.0 - profile)
    root = (quad_b.square() - quad_a * quad_c).clamp(min=1e-6).sqrt()
    z = (root - quad_b) / quad_a
    u, w = cos * x - sin * z, sin * x + cos * z
    # The outline is exact: an ellipse turned by yaw casts a shadow of half width sqrt(a^2 cos^2 + c^2 sin^2).
    shadow2 = a2 * cos.square() + c2 * sin.square()
    inside = 1.0 - profile - x.square() / shadow2
    steep = ((2.0 * x / shadow2).square() + slope.square()).sqrt().clamp(min=0.6)
    front = edge(w - 0.06, 4.0)
    normal = (u / a2, 0.5 * slope, w / c2)
    half = 0.545 + 0.050 * face["face_width"]
    head = Surface(u=u, v=v, w=w, normal=normal, front=front, half_width=half, lean=torch.tan(yaw))
    return head, edge(inside / steep)


def _lamp(pose: Traits) -> tuple[Tensor, Tensor, Tensor]:
    """Return the direction to the lamp, camera frame."""
    azimuth, height = 0.50 * pose["light_azimuth"], 0.35 + 0.25 * pose["light_height"]
    return torch.sin(azimuth) * torch.cos(height), torch.sin(height), torch.cos(azimuth) * torch.cos(height)


def _lit_head(
    head: Surface, face: Traits, pose: Traits, skin: Tensor, hair: Tensor, light: tuple[Tensor, Tensor, Tensor]
) -> Tensor:
    """Colour of the head: painted skin and hair under the lamp."""
    canvas = features.paint_skin(head, face, skin)
    canvas = features.paint_nose(canvas, head, face, skin)
    canvas = features.paint_beard(canvas, head, face, hair)
    canvas = features.paint_mouth(canvas, head, face, pose, skin)
    canvas = features.paint_eyes(canvas, head, face, pose, skin)
    canvas = features.paint_brows(canvas, head, face, pose, hair)
    cap = features.hair_on_head(head, face)
    locks = features.strands(head.u / head.half_width, head.v, face)
    canvas = over(canvas, cap, hair * locks)
    nx, ny, nz = features.carve(head, face)
    bare = 1.0 - cap
    nx, ny, nz = over(head.normal[0], bare, nx), over(head.normal[1], bare, ny), over(head.normal[2], bare, nz)
    size = torch.rsqrt(nx.square() + ny.square() + nz.square() + 1e-6)
    yaw, pitch = _turn(pose)
    cos, sin = torch.cos(yaw), torch.sin(yaw)
    camera_x, turned_z = cos * nx + sin * nz, cos * nz - sin * nx
    camera_y = torch.cos(pitch) * ny - torch.sin(pitch) * turned_z
    camera_z = torch.cos(pitch) * turned_z + torch.sin(pitch) * ny
    lambert = ((camera_x * light[0] + camera_y * light[1] + camera_z * light[2]) * size).clamp(min=0.0)
    ambient = 0.55 + 0.06 * pose["ambient"]
    gloss = ((lambert + camera_z * size) * 0.5).clamp(0.0, 1.0).pow(24) * (0.10 + 0.10 * cap)
    return canvas * (ambient + (1.14 - ambient) * lambert) + gloss


def _backdrop(pose: Traits) -> Tensor:
    colour = 0.52 + 0.20 * torch.tanh(torch.cat([pose["back_red"], pose["back_green"], pose["back_blue"]], 1))
    line = torch.linspace(-1.0, 1.0, IMAGE_SIZE)
    fade = 1.0 - 0.16 * torch.tanh(pose["back_fade"]) * line.view(1, 1, -1, 1) + 0.05 * line.view(1, 1, 1, -1)
    return colour * fade


def _back_hair(canvas: Tensor, x: Tensor, y: Tensor, face: Traits, pose: Traits, hair: Tensor) -> Tensor:
    """Hair that stands out from the skull and falls beside the neck, behind everything else."""
    yaw, _ = _turn(pose)
    volume, length = 0.5 + 0.5 * face["hair_volume"], 0.5 + 0.5 * face["hair_length"]
    curl = 0.5 + 0.5 * face["curl"]
    dx = x + 0.10 * torch.sin(yaw)
    half = 0.560 + 0.050 * face["face_width"] + 0.015 + 0.085 * volume + 0.03 * curl
    top = 0.760 + 0.020 + 0.125 * volume
    up, down = (y / top).clamp(min=0.0), (-y).clamp(min=0.0)
    side = half * (1.0 + 0.10 * length * down)
    radius = torch.sqrt((dx / side).square() + up.square() + 1e-6)
    ripple = 0.028 * curl * torch.sin(17.0 * dx + 3.0) * torch.sin(15.0 * y)
    end = 0.18 - 1.15 * length
    mask = edge((1.0 - radius) * half + ripple) * edge(y - end - 0.05 * torch.cos(9.0 * dx), 4.0)
    return over(canvas, mask, hair * features.strands(dx / half, y, face) * (0.70 + 0.20 * up))


def _body(canvas: Tensor, x: Tensor, y: Tensor, face: Traits, pose: Traits, skin: Tensor) -> Tensor:
    """Neck in the shadow of the chin, and shoulders in plain cloth."""
    neck = edge(0.30 + 0.03 * face["face_width"] + 0.6 * (-0.80 - y).clamp(min=0.0) - x.abs(), 1.5) * edge(-0.30 - y)
    canvas = over(canvas, neck, skin * (0.58 + 0.5 * (-0.72 - y).clamp(0.0, 0.3)))
    cloth = 0.42 + 0.20 * torch.tanh(torch.cat([pose["cloth_red"], pose["cloth_green"], pose["cloth_blue"]], 1))
    collar = -0.80 - 0.17 * (1.0 - (x / 0.34).square()).clamp(min=0.0) - 0.16 * (x.abs() - 0.34).clamp(min=0.0)
    return over(canvas, edge(collar - y), cloth * (1.0 - 0.25 * x.abs()))


def _ears(canvas: Tensor, x: Tensor, y: Tensor, face: Traits, pose: Traits, skin: Tensor) -> Tensor:
    """Ears at the sides of the skull; a turned head hides one and shows the other."""
    yaw, pitch = _turn(pose)
    size = 1.0 + 0.35 * face["ear_size"]
    half = 0.560 + 0.050 * face["face_width"]
    for side in (-1.0, 1.0):
        centre = side * half * torch.cos(yaw) - 0.10 * torch.sin(yaw)
        dx, dy = (x - centre) / (0.075 * size), (y + 0.02 + 0.10 * torch.sin(pitch)) / (0.145 * size)
        radius = torch.sqrt(dx.square() + dy.square() + 1e-6)
        canvas = over(canvas, edge((1.0 - radius) * 0.09), skin * 0.86)
        canvas = over(canvas, 0.5 * edge((0.55 - radius) * 0.09, 2.0), skin * rgb(0.55, 0.42, 0.40))
    return canvas


def _develop(canvas: Tensor, pose: Traits) -> Tensor:
    """Colour of the lamp, contrast and a slight blur."""
    warmth = 0.04 * pose["warmth"]
    canvas = canvas * torch.cat([1.0 + warmth, torch.ones_like(warmth), 1.0 - warmth], 1)
    canvas = ((canvas - 0.45) * (1.0 + 0.08 * pose["contrast"]) + 0.45).clamp(0.0, 1.0)
    amount = 0.20 * (1.0 + torch.tanh(pose["blur"] - 0.7))
    wide = torch.nn.functional.pad(canvas, (1, 1, 1, 1), mode="replicate")
    rows = 0.25 * (wide[:, :, :-2] + wide[:, :, 2:]) + 0.5 * wide[:, :, 1:-1]
    soft = 0.25 * (rows[..., :-2] + rows[..., 2:]) + 0.5 * rows[..., 1:-1]
    return over(canvas, amount, soft)
