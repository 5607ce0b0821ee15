"""Token ids of a text, as RoBERTa gives them: GPT-2's byte-level BPE, by the tokenizers library.

Source of the rules: facebookresearch/fairseq, models/roberta/hub_interface.py and data/encoders/gpt2_bpe_utils.py; the
files are those of Hugging Face's RobertaTokenizer, whose ids are the rows of the models' embeddings.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from porting.checkpoint.format import whole
from porting.data.packed import pack
from porting.data.vocabulary import LARGEST
from porting.errors import FormatError

SPECIAL = ("<s>", "</s>", "<pad>", "<unk>", "<mask>")


class BytePairs:
    """Turns text into ids by a vocab.json and a merges.txt. A special token's name in a text is plain text."""

    def __init__(self, vocab: Path, merges: Path) -> None:
        """Raises: FormatError for files that are not such a pair."""
        from tokenizers import Tokenizer, pre_tokenizers
        from tokenizers.models import BPE

        ids, data = _vocabulary(vocab)
        self.size, self.sha256 = max(ids.values()) + 1, hashlib.sha256(data).hexdigest()
        self.cls, self.sep, self.pad = ids["<s>"], ids["</s>"], ids["<pad>"]
        self._model = Tokenizer(BPE(ids, _merges(merges, ids), unk_token="<unk>"))  # noqa: S106 - no password
        self._model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without <s> and </s>."""
        sound = text.encode("utf-8", "replace").decode()  # no halves of surrogate pairs
        ids: list[int] = self._model.encode(sound, add_special_tokens=False).ids
        return ids

    def packed(self, text: str) -> bytes:
        """The same as varints."""
        return pack(self.ids(text))


def _vocabulary(path: Path) -> tuple[dict[str, int], bytes]:
    """Ids by token, and the file's bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    data = whole(path, LARGEST)
    try:
        ids: Any = json.loads(data)
    except ValueError as error:
        raise FormatError(path, "", f"is no JSON: {error}") from None
    sound = isinstance(ids, dict) and all(type(number) is int and number >= 0 for number in ids.values())
    if not sound or len(set(ids.values())) < len(ids):
        raise FormatError(path, "", "wanted an object of tokens with a whole number each, no two the same")
    absent = [token for token in (*SPECIAL, *sorted(ByteLevel.alphabet())) if token not in ids]
    if absent:
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        raise FormatError(path, "", f"is no byte-level vocabulary of RoBERTa: {' '.join(absent[:5])}{more} not in it")
    return ids, data


def _merges(path: Path, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Pairs of tokens in the order in which they are joined; a line `#version` may come first."""
    try:
        lines = whole(path, LARGEST).decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(path, f"byte {error.start}", "wanted UTF-8 text") from None
    pairs: list[tuple[str, str]] = []
    for number, line in enumerate(lines, 1):
        if number == 1 and line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        if not left or not right or not {left, right, left + right} <= ids.keys():
            raise FormatError(
                path, f"line {number}", f"wanted two tokens of the vocabulary that make a third, got {line!r}"
            )
        pairs.append((left, right))
    return pairs
