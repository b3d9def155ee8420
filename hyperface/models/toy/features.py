"""The features that are painted on a toy face: skin relief, nose, eyes, brows, mouth, beard, marks and hair.

Every function takes the surface of a posed head and returns what it adds; none of them knows the camera. Edges are
analytic: a signed distance in head units divided by the size of a pixel, clamped to [0, 1]. That is as smooth as
fourfold supersampling at a quarter of its cost.

Shape legend: B images, 3 colour channels, H and W pixel rows and columns. A plane is [B, 1, H, W], a per-image scalar
[B, 1, 1, 1], a colour [B, 3, 1, 1]. Head units: the face is about 1.1 wide and 1.4 high, v points up, u to the
viewer's right.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

PIXEL = 2.0 / 64.0

Traits = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Surface:
    """The visible side of one posed head, per pixel.

    u, v, w: head coordinates (right, up, towards the viewer); normal: three planes (unnormalised, head frame); front: 1
    where features may be painted, 0 on the sides; half_width: half the width of the skull, one scalar per image; lean:
    tangent of the yaw angle, used where something stands out from the surface.
    """

    u: Tensor
    v: Tensor
    w: Tensor
    normal: tuple[Tensor, Tensor, Tensor]
    front: Tensor
    half_width: Tensor
    lean: Tensor


def edge(distance: Tensor, softness: float = 1.2) -> Tensor:
    """Coverage of a pixel, 0 to 1, from the signed distance (head units, positive inside) to an edge."""
    return (distance * (1.0 / (softness * PIXEL)) + 0.5).clamp(0.0, 1.0)


def bump(du: Tensor, dv: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Gaussian hill of standard deviations (width, height) at offset (du, dv)."""
    return torch.exp(-0.5 * ((du / width).square() + (dv / height).square()))


def over(canvas: Tensor, mask: Tensor, colour: Tensor) -> Tensor:
    """Paint `colour` over `canvas` with coverage `mask`."""
    return canvas + mask * (colour - canvas)


def mix(dark: tuple[float, float, float], light: tuple[float, float, float], amount: Tensor) -> Tensor:
    """Colour between two anchors, geometric so that dark tones keep their hue; amount 0 to 1."""
    low = torch.tensor(dark).log().view(1, 3, 1, 1)
    high = torch.tensor(light).log().view(1, 3, 1, 1)
    return torch.exp(low + (high - low) * amount)


def rgb(red: float, green: float, blue: float) -> Tensor:
    """A constant colour."""
    return torch.tensor([red, green, blue]).view(1, 3, 1, 1)


def tint(colour: Tensor, red: Tensor, green: Tensor, blue: Tensor) -> Tensor:
    """Scale the three channels by 1 + (red, green, blue), kept in [0, 1]."""
    return (colour * (1.0 + torch.cat([red, green, blue], 1))).clamp(0.0, 1.0)


def skin_colour(face: Traits) -> Tensor:
    """Return the colour of the skin, from its tone and undertone."""
    base = mix((0.33, 0.20, 0.14), (0.98, 0.83, 0.74), 0.60 + 0.40 * face["skin_light"])
    warm = face["skin_warm"]
    return tint(base, 0.03 * warm, -0.03 * warm, -0.14 * warm)


def hair_colour(face: Traits) -> Tensor:
    """Black over brown to blond; the second trait runs from ashen to red."""
    base = mix((0.06, 0.045, 0.04), (0.88, 0.70, 0.40), 0.5 + 0.5 * face["hair_light"])
    red = face["hair_red"]
    grey = base.mean(1, keepdim=True)
    ashen = over(base, 0.75 * (-red).clamp(min=0.0), grey * 1.1)
    warm = red.clamp(min=0.0)
    return tint(ashen, 0.45 * warm, -0.10 * warm, -0.45 * warm)


def iris_colour(face: Traits) -> Tensor:
    """Brown over green to blue, and its lightness."""
    hue = face["iris_hue"]
    brown, green, blue = rgb(0.36, 0.20, 0.08), rgb(0.30, 0.46, 0.22), rgb(0.24, 0.46, 0.78)
    warm = over(green, (-hue).clamp(0.0, 1.0), brown)
    return (over(warm, hue.clamp(0.0, 1.0), blue) * (1.0 + 0.40 * face["iris_light"])).clamp(0.0, 1.0)


def eye_centre(face: Traits) -> tuple[Tensor, Tensor]:
    """Horizontal distance of an eye from the middle line and its height, head units."""
    return 0.232 + 0.040 * face["eye_spacing"], 0.075 + 0.050 * face["eye_height"]


def nose_tip(face: Traits) -> Tensor:
    """Height of the tip of the nose, head units."""
    return -0.165 - 0.060 * face["nose_length"] + 0.025 * face["eye_height"]


def mouth_centre(face: Traits) -> Tensor:
    """Height of the line between the lips, head units."""
    return -0.385 - 0.050 * face["mouth_height"]


def carve(head: Surface, face: Traits) -> tuple[Tensor, Tensor, Tensor]:
    """Normals after nose, cheekbones, eye sockets and chin have been raised on the skull."""
    nx, ny, nz = head.normal
    tip = nose_tip(face)
    eye_u, eye_v = eye_centre(face)
    along = ((eye_v + 0.03 - head.v) / (eye_v + 0.03 - tip)).clamp(0.0, 1.0)
    du = head.u - 0.13 * head.lean * along
    width = 0.045 + 0.012 * face["nose_width"]
    height = 0.75 + 0.45 * face["nose_relief"]
    spread = width * (0.75 + 0.45 * along)
    below = edge(head.v - tip + 0.06, 3.0)
    bridge = torch.exp(-0.5 * (du / spread).square()) * (0.25 + 0.75 * along) * below * edge(eye_v + 0.10 - head.v, 3.0)
    ball = bump(du, head.v - tip, 0.055 + 0.02 * face["nose_width"], 0.045)
    nx = nx + height * (bridge * du / spread * 1.5 + ball * du * 14.0)
    ny = ny + height * ball * (head.v - tip) * 20.0
    bone = 0.5 + 0.5 * face["cheekbone"]
    for side in (-1.0, 1.0):
        cu, cv = head.u - side * (eye_u + 0.06), head.v - (eye_v - 0.19)
        cheek = bone * bump(cu, cv, 0.11, 0.07)
        nx = nx + 1.0 * cheek * cu / 0.11
        ny = ny + 1.4 * cheek * cv / 0.07
    chin = bump(head.u, head.v + 0.585, 0.10, 0.06)
    ny = ny + 0.45 * chin * (head.v + 0.585) / 0.06
    nx = nx + (0.25 + 0.55 * face["chin_cleft"].clamp(min=0.0)) * chin * head.u / 0.10
    return nx, ny, nz


def paint_skin(head: Surface, face: Traits, skin: Tensor) -> Tensor:
    """Bare skin with sockets, blush, folds, freckles and moles: [B, 3, H, W]."""
    eye_u, eye_v = eye_centre(face)
    tip, mouth = nose_tip(face), mouth_centre(face)
    away = head.u.abs()
    socket = bump(away - eye_u * 0.92, head.v - eye_v - 0.025, 0.13, 0.075)
    canvas = skin * (1.0 - 0.20 * head.front * socket)
    blush = bump(away - eye_u - 0.07, head.v - eye_v + 0.22, 0.11, 0.08) * (0.22 + 0.22 * face["blush"])
    canvas = over(canvas, head.front * blush, skin * rgb(1.0, 0.60, 0.55))
    # The fold from the wing of the nose to the corner of the mouth ages a face.
    along = ((tip - head.v) / (tip - mouth)).clamp(0.0, 1.3)
    fold = (
        torch.exp(-((away - 0.115 - 0.10 * along) / 0.020).square())
        * edge(tip - head.v, 3.0)
        * edge(head.v - mouth + 0.03, 3.0)
    )
    canvas = canvas * (1.0 - 0.20 * head.front * fold * face["folds"].clamp(min=0.0))
    speckle = (
        torch.sin(41.0 * head.u + 9.0 * head.v) * torch.sin(37.0 * head.v - 11.0 * head.u) * torch.sin(23.0 * head.u)
    )
    zone = bump(head.u, head.v + 0.05, 0.26, 0.12) * head.front
    dots = ((speckle.abs() - 0.32) * 3.0).clamp(0.0, 1.0)
    canvas = over(canvas, 0.75 * zone * dots * face["freckles"].clamp(min=0.0), skin * rgb(0.62, 0.45, 0.36))
    # The mole walks round an arc from cheek over chin to cheek, so that every value of its trait shows.
    turn = 1.5 * face["mole"]
    mole_u, mole_v = 0.35 * torch.sin(turn), -0.16 - 0.38 * torch.cos(turn)
    spot = edge(0.024 - torch.sqrt((head.u - mole_u).square() + (head.v - mole_v).square() + 1e-6))
    return over(canvas, 0.75 * spot * head.front, skin * rgb(0.38, 0.25, 0.22))


def paint_nose(canvas: Tensor, head: Surface, face: Traits, skin: Tensor) -> Tensor:
    """Shadow under the tip, wings and nostrils."""
    tip = nose_tip(face)
    width = 0.070 + 0.022 * face["nose_width"]
    du = head.u - 0.13 * head.lean
    under = tip - 0.055 + 0.018 * face["nose_tip_up"]
    shadow = edge(1.0 - (du / (width * 1.45)).square() - ((head.v - under) / 0.032).square(), 16.0)
    canvas = over(canvas, 0.42 * shadow * head.front, skin * rgb(0.55, 0.42, 0.40))
    wing = edge(1.0 - ((du.abs() - width * 1.15) / 0.030).square() - ((head.v - under - 0.025) / 0.040).square(), 14.0)
    canvas = over(canvas, 0.28 * wing * head.front, skin * rgb(0.62, 0.50, 0.47))
    size = 0.014 + 0.008 * (1.0 + face["nose_tip_up"])
    hole = edge(1.0 - ((du.abs() - width * 0.62) / 0.032).square() - ((head.v - under + 0.002) / size).square(), 16.0)
    return over(canvas, 0.80 * hole * head.front, skin * rgb(0.20, 0.12, 0.12))


def paint_eyes(canvas: Tensor, head: Surface, face: Traits, pose: Traits, skin: Tensor) -> Tensor:
    """Almond eyes: lids, white, iris, pupil, highlight and lashes."""
    eye_u, eye_v = eye_centre(face)
    width = 0.112 + 0.022 * face["eye_width"]
    blink = 1.0 - 0.60 * torch.sigmoid(4.0 * (pose["blink"] - 1.3)) - 0.05 * pose["smile"].clamp(-1.0, 1.0)
    upper = (0.060 + 0.024 * face["eye_open"]) * blink
    lower = (0.040 + 0.010 * face["eye_open"]) * blink
    iris = iris_colour(face)
    lash = hair_colour(face) * 0.25
    radius = 0.052 + 0.006 * face["iris_light"].abs()
    for side in (-1.0, 1.0):
        du = head.u - side * eye_u
        dv = head.v - eye_v - side * (0.30 * face["eye_tilt"] + 0.05) * du
        arc = (1.0 - (du / width).square()).clamp(min=0.0)
        over_lid, under_lid = upper * arc - dv, lower * arc + dv
        inside = edge(torch.minimum(over_lid, under_lid)) * edge(width - du.abs()) * head.front
        crease = (0.055 + 0.020 * face["lid"]) * arc.sqrt()
        canvas = over(canvas, 0.30 * edge(0.016 - (over_lid + crease).abs()) * head.front * arc, skin * 0.45)
        canvas = over(canvas, inside, rgb(0.94, 0.93, 0.91) * (0.80 + 3.0 * over_lid.clamp(0.0, 0.06)))
        gaze_u, gaze_v = du - 0.022 * pose["gaze"], dv - 0.008
        out = torch.sqrt(gaze_u.square() + gaze_v.square() + 1e-6)
        canvas = over(canvas, inside * edge(radius - out), iris)
        canvas = over(canvas, inside * edge(radius - out) * edge(out - radius + 0.016), iris * 0.45)
        canvas = over(canvas, inside * edge(0.021 - out), rgb(0.03, 0.02, 0.02))
        glint = edge(0.013 - torch.sqrt((gaze_u - 0.020).square() + (gaze_v - 0.022).square() + 1e-6))
        canvas = over(canvas, 0.85 * inside * glint, rgb(1.0, 1.0, 1.0))
        rim = edge(0.013 - over_lid.abs()) * edge(width * 1.08 - du.abs()) * head.front
        canvas = over(canvas, 0.85 * rim, lash)
        canvas = over(
            canvas, 0.22 * edge(0.010 - under_lid.abs()) * edge(width - du.abs()) * head.front, lash + 0.15 * skin
        )
    return canvas


def paint_brows(canvas: Tensor, head: Surface, face: Traits, pose: Traits, hair: Tensor) -> Tensor:
    """Brows: thickness, height, slope, arch and darkness; expression lifts them."""
    eye_u, eye_v = eye_centre(face)
    half = 0.155
    base = eye_v + 0.150 + 0.032 * face["brow_height"] + 0.020 * pose["brow_raise"]
    thick = 0.029 + 0.014 * face["brow_thick"]
    colour = hair * (0.72 - 0.22 * face["brow_dark"])
    for side in (-1.0, 1.0):
        du = side * head.u - eye_u - 0.01
        line = base + (0.22 * face["brow_slope"] - 0.02) * du - (1.6 + 1.4 * face["brow_arch"]) * (du - 0.03).square()
        taper = thick * (1.0 - 0.55 * ((du + half) / (2.0 * half)).clamp(0.0, 1.0))
        mask = edge(taper - (head.v - line).abs()) * edge(half - du.abs(), 2.0) * head.front
        canvas = over(canvas, (0.82 + 0.12 * face["brow_dark"]) * mask, colour)
    return canvas


def paint_mouth(canvas: Tensor, head: Surface, face: Traits, pose: Traits, skin: Tensor) -> Tensor:
    """Lips with a cupid's bow, teeth and dark inside; smile bends and widens, the jaw opens."""
    smile = torch.tanh(0.8 * pose["smile"] + 0.2)
    width = (0.175 + 0.038 * face["mouth_width"]) * (1.0 + 0.16 * smile)
    gap = 0.060 * torch.sigmoid(2.5 * (pose["mouth_open"] - 0.7)) + 0.022 * (smile - 0.2).clamp(min=0.0)
    centre = mouth_centre(face)
    across = head.u / width
    dv = head.v - centre - 0.045 * smile * (across.square() - 0.35)
    arc = (1.0 - across.square()).clamp(min=0.0)
    bow = 1.0 - 0.30 * torch.exp(-(across / 0.16).square())
    rise = (0.036 + 0.018 * face["upper_lip"]) * arc.sqrt() * bow + gap * arc
    fall = (0.044 + 0.022 * face["lower_lip"]) * arc.sqrt() + gap * arc
    tone = tint(skin, 0.02 + 0.06 * face["lip_red"], -0.38 - 0.16 * face["lip_red"], -0.33 - 0.10 * face["lip_red"])
    lips = edge(torch.minimum(rise - dv, fall + dv)) * edge(width - head.u.abs()) * head.front
    light = 1.0 + 0.16 * (dv < 0).float() * bump(head.u, dv + 0.6 * fall, 0.09, 0.02)
    canvas = over(canvas, lips, tone * 0.94 * light)
    hollow = edge(gap * arc - dv.abs() - 0.002, 1.0) * edge(width - head.u.abs()) * head.front
    canvas = over(canvas, hollow, rgb(0.24, 0.07, 0.07))
    teeth = hollow * edge(dv + 0.25 * gap * arc) * edge(width * 0.80 - head.u.abs(), 2.0)
    canvas = over(canvas, 0.9 * teeth, rgb(0.95, 0.93, 0.88))
    line = edge(0.009 - dv.abs()) * edge(width * 1.05 - head.u.abs(), 2.0) * head.front * (1.0 - hollow)
    canvas = over(canvas, 0.62 * line, tone * 0.35)
    shade = bump(head.u, head.v - centre + 0.115 + 0.02 * face["lower_lip"], 0.085, 0.022)
    return canvas * (1.0 - 0.22 * shade * head.front)


def paint_beard(canvas: Tensor, head: Surface, face: Traits, hair: Tensor) -> Tensor:
    """Beard along the jaw and moustache; both traits below zero mean clean-shaven."""
    centre, tip = mouth_centre(face), nose_tip(face)
    away = head.u.abs()
    grain = 0.90 + 0.10 * torch.sin(63.0 * head.u + 17.0 * head.v) * torch.sin(58.0 * head.v)
    ring = torch.sqrt((head.u / 0.25).square() + ((head.v - centre) / 0.125).square() + 1e-6) - 1.0
    line = -0.15 - 0.36 * (1.0 - (away / 0.46).clamp(0.0, 1.0)).square() - 0.04
    jaw = edge(line - head.v, 4.0) * edge(0.13 * ring, 3.0) * edge(head.w + 0.10, 3.0)
    beard = (1.5 * face["beard"]).clamp(0.0, 0.92)
    canvas = over(canvas, beard * jaw * grain, hair * 0.70)
    lip = (
        edge(0.034 - (head.v - centre - 0.085 + 0.9 * head.u.square()).abs(), 1.6) * edge(0.19 - away, 3.0) * head.front
    )
    lip = lip * edge(tip - 0.075 - head.v, 2.0)
    return over(canvas, (1.5 * face["moustache"]).clamp(0.0, 0.92) * lip * grain, hair * 0.65)


def hair_on_head(head: Surface, face: Traits) -> Tensor:
    """Coverage of the skull by hair: hairline, fringe, parting and temples. [B, 1, H, W]."""
    across = head.u / head.half_width
    peak = 0.10 * face["hair_peak"] * torch.exp(-(across / 0.22).square())
    line = 0.425 + 0.130 * face["hairline"] - (0.17 - 0.12 * face["hair_peak"]) * across.square() - peak
    line = (
        line
        + 0.16 * face["hair_part"] * across
        + 0.012 * torch.sin(24.0 * across + 5.0 * face["hair_part"]) * (1.0 + face["curl"])
    )
    top = edge(head.v - line, 1.5)
    reach = -0.05 - 0.25 * face["hair_length"]
    temple = edge(0.12 + 0.05 * face["hair_volume"] - head.w, 2.0) * edge(head.v - reach, 3.0)
    return torch.maximum(top, temple)


def strands(across: Tensor, v: Tensor, face: Traits) -> Tensor:
    """Brightness pattern of hair, mean about 1: straight strands to curls. [B, 1, H, W]."""
    curl = 0.5 + 0.5 * face["curl"]
    wave = torch.sin(23.0 * across + 2.5 * v + 3.0 * face["hair_part"] + 2.2 * curl * torch.sin(15.0 * v))
    bent = across + 0.07 * torch.sin(9.0 * v)
    knots = torch.sin(20.0 * bent + 6.0 * v) * torch.sin(23.0 * v + 5.0 * torch.sin(4.0 * bent))
    return 1.0 + 0.10 * (1.0 - 0.5 * curl) * wave + 0.22 * curl * knots
