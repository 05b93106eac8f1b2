"""A count as a picture in the style of https://shields.io. Pure functions."""

from __future__ import annotations

import html
import re
import unicodedata

MAX_LABEL = 250  # characters
COLORS = {  # as https://github.com/badges/shields/tree/master/badge-maker names them
    "brightgreen": "#4b0", "success": "#4b0", "green": "#67ac09", "yellowgreen": "#95991a", "yellow": "#d8b800",
    "orange": "#ea7233", "important": "#ea7233", "red": "#dd4343", "critical": "#dd4343", "blue": "#007ec6",
    "informational": "#007ec6", "grey": "#555", "gray": "#555", "lightgrey": "#939393", "lightgray": "#939393",
    "inactive": "#939393", "black": "#000", "white": "#fff", "pink": "#e0609f", "purple": "#7d4cc2",
}  # fmt: skip
NARROW, BROAD = set(" !'(),-./:;[]fijlrt|"), set("%@MWmwЖШЩЮжшщю")  # of the letters that most labels are written in
# Flags; skin tones, keycaps and joined ones: https://unicode.org/reports/tr51/#Emoji_Sequences
EMOJI_SEQUENCE = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}|.(?:[\U0001f3fb-\U0001f3ff\ufe0f\u20e3\U000e0020-\U000e007f]|\u200d.)+"
)
WIDE = "\u3000"  # what stands for an emoji that is a sequence of characters
UNSHOWN = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")  # what XML forbids, and controls


def label_of(text: str) -> str:
    """Return the text as a badge can show it; raise ValueError where it is too long."""
    label = unicodedata.normalize("NFC", UNSHOWN.sub("", text).strip())
    if len(label) > MAX_LABEL:
        raise ValueError(f"label can have {MAX_LABEL} characters at most.")
    return label


def color_of(text: str) -> str:
    """Return a name of shields.io, or hexadecimal digits with or without `#`, as a CSS colour; raise ValueError."""
    color = COLORS.get(text.lower()) or f"#{text.lower().removeprefix('#')}"
    if not re.fullmatch("#([0-9a-f]{3}){1,2}", color):
        raise ValueError(f"color must be like 1d6b52, or one of {', '.join(COLORS)}.")
    return color


def svg(label: str, message: str, color: str, title: str = "") -> str:
    """Return the picture: the label, where there is one, on grey, and the message on a CSS colour like #1d6b52."""
    left = _width(label) + 10 if label else 0
    right = _width(message) + 10
    name = html.escape(title or (f"{label}: {message}" if label else message))
    texts = (_text(label, left / 2, left, "#555") if label else "") + _text(message, left + right / 2, right, color)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" aria-label="{name}">'
        f'<title>{name}</title><g clip-path="inset(0 round 3px)">'  # a <clipPath> has an id, which two would share
        f'<rect width="{left}" height="20" fill="#555"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{color}"/></g>'
        '<g font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle" '
        f'text-rendering="geometricPrecision">{texts}</g></svg>'
    )


def _width(text: str) -> int:
    """Return about how wide the text is, in px."""
    return round(sum(map(_width_of_one, EMOJI_SEQUENCE.sub(WIDE, text))))


def _width_of_one(character: str) -> float:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    if unicodedata.east_asian_width(character) in "WF":
        return 12
    if character.isupper() or not character.isascii():
        return 10 if character in BROAD else 8
    return 10 if character in BROAD else 3.8 if character in NARROW else 6.6


def _text(text: str, middle: float, width: int, ground: str) -> str:
    # Where letters stand apart, the text is set to the width that was reserved, whatever font there is. Joined letters
    # (Arabic, Devanagari ...) would be torn apart.
    apart = all(character < "\u0590" or _width_of_one(character) == 12 for character in EMOJI_SEQUENCE.sub(WIDE, text))
    length = f' textLength="{width - 10}"' if apart else ""
    return f'<text x="{middle}" y="14" fill="{_ink(ground)}"{length}>{html.escape(text)}</text>'


def _ink(ground: str) -> str:
    """Return the colour that can be read on this ground, as shields.io does."""
    digits = ground[1:] if len(ground) == 7 else "".join(digit * 2 for digit in ground[1:])
    red, green, blue = bytes.fromhex(digits)
    return "#fff" if (red * 299 + green * 587 + blue * 114) / 255_000 <= 0.69 else "#333"
