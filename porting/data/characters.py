"""BERT's basic tokenization as two tables of characters, for `str.translate`.

BERT looks at every character by itself: some go, some become a space, some stand alone. Nothing in it looks past a
space, so a text can be cut at spaces first and every distinct piece be worked out once. The character classes are
those of Python's unicodedata, as in the original.

Source of the rules: google-research/bert, tokenization.py (BasicTokenizer).
"""

from __future__ import annotations

import unicodedata

_CHINESE = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)
"""Code points that stand alone as words: the blocks of CJK ideographs, not Hangul, Hiragana or Katakana."""

_ASCII_PUNCTUATION = frozenset(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
"""More than Unicode's: BERT takes $, +, <, =, >, ^, `, | and ~ for punctuation too."""


class _Cleaning(dict[int, "str | None"]):
    """Control characters go, white space becomes a space, ideographs get a space on both sides."""

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        category = unicodedata.category(char)
        result: str | None = char
        if char in "\t\n\r" or category == "Zs":
            result = " "
        elif code in {0, 0xFFFD} or category in {"Cc", "Cf"}:
            result = None
        elif any(low <= code <= high for low, high in _CHINESE):
            result = f" {char} "
        self[code] = result
        return result


class _Splitting(dict[int, "str | None"]):
    """Punctuation gets a space on both sides; with `strip`, combining marks go."""

    def __init__(self, *, strip: bool) -> None:
        super().__init__()
        self.strip = strip

    def __missing__(self, code: int) -> str | None:
        char = chr(code)
        category = unicodedata.category(char)
        result: str | None = char
        if self.strip and category == "Mn":
            result = None
        elif code in _ASCII_PUNCTUATION or category.startswith("P"):
            result = f" {char} "
        self[code] = result
        return result


_CLEAN = _Cleaning()
_SPLIT = _Splitting(strip=False)
_SPLIT_AND_STRIP = _Splitting(strip=True)


def pieces(text: str) -> list[str]:
    r"""A text cut at its white space and around its ideographs, control characters gone.

    >>> pieces("ab\u00adc\u3000d 中文!")
    ['abc', 'd', '中', '文', '!']
    """
    if text.isascii() and text.isprintable():
        return text.split()
    return text.translate(_CLEAN).split()


def words(piece: str, *, lower: bool) -> list[str]:
    """The words of a piece: in lower case without accents if `lower`, cut at punctuation.

    >>> words("Café-X,", lower=True)
    ['cafe', '-', 'x', ',']
    """
    if not lower:
        return piece.translate(_SPLIT).split()
    return unicodedata.normalize("NFD", piece.lower()).translate(_SPLIT_AND_STRIP).split()
