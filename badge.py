"""A count as a picture in the style of https://shields.io. Pure functions."""

from __future__ import annotations

import html
import re
import unicodedata

LABEL_LIMIT = 250  # characters
COLORS = {  # as https://github.com/badges/shields/tree/master/badge-maker names them
    "brightgreen": "#4b0", "success": "#4b0", "green": "#67ac09", "yellowgreen": "#95991a", "yellow": "#d8b800",
    "orange": "#ea7233", "important": "#ea7233", "red": "#dd4343", "critical": "#dd4343", "blue": "#007ec6",
    "informational": "#007ec6", "grey": "#555", "gray": "#555", "lightgrey": "#939393", "lightgray": "#939393",
    "inactive": "#939393", "black": "#000", "white": "#fff", "pink": "#e0609f", "purple": "#7d4cc2",
}  # fmt: skip
WIDTHS = {  # of Verdana's characters at 11 px: https://github.com/metabolize/anafanafo
    character: width
    for characters, width in {
        "'il": 3.0, "fj ": 3.9, "!t,.": 4.3, "Ir": 4.7, '()-/:;J[]\\|"': 5.0, "csz": 5.8, "?LF": 6.2, "PTYaekovxy": 6.6,
        "Ebdghnpqu0123456789$*_`{}": 7.0, "ABCKRSVXZ&": 7.6, "DGHNOQU": 8.4, "M#+<=>^w~": 9.0, "Wm@": 10.9, "%": 11.9,
        "жмфшщыюФМ": 9.0, "ЖШЩЫЮ": 11.9,
    }.items()
    for character in characters
}  # fmt: skip
WIDE = "\u3000"
# Flags; skin tones, keycaps and joined ones: https://unicode.org/reports/tr51/#Emoji_Sequences
EMOJI_SEQUENCE = re.compile(
    "[\U0001f1e6-\U0001f1ff]{2}|.(?:[\U0001f3fb-\U0001f3ff\ufe0f\u20e3\U000e0020-\U000e007f]|\u200d.)+"
)
UNSHOWN = re.compile("[^ -~\xa0-\ud7ff\ue000-\ufffc\U00010000-\U0010ffff]")  # what XML forbids, and controls


def label_of(text: str) -> str:
    """Return the text as a badge can show it; raise ValueError where it is too long."""
    label = UNSHOWN.sub("", text).strip()
    if len(label) > LABEL_LIMIT:
        raise ValueError(f"label can have {LABEL_LIMIT} characters at most.")
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
        f"<title>{name}</title>"
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath><g clip-path="url(#r)">'
        f'<rect width="{left}" height="20" fill="#555"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{color}"/></g>'
        '<g font-family="Verdana,Geneva,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle" '
        f'text-rendering="geometricPrecision">{texts}</g></svg>'
    )


def _width(text: str) -> int:
    """Return about how wide the text is, in px: a decomposed letter counts as one, a ligature as its letters."""
    composed = EMOJI_SEQUENCE.sub(WIDE, unicodedata.normalize("NFC", text))
    spelt = re.sub("[\ufb00-\U0010ffff]", lambda one: unicodedata.normalize("NFKC", one[0]), composed)
    return round(max(sum(map(_width_of_one, form)) for form in (composed, spelt)))


def _width_of_one(character: str) -> float:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    if "\u0d00" <= character <= "\u0d7f":  # Malayalam
        return 11
    return WIDTHS.get(character) or (12 if unicodedata.east_asian_width(character) in "WF" else 8)


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
