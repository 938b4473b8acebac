#!/usr/bin/env python3
"""Texts and their Unicode form C as Hugging Face's `tokenizers` makes it: tests/oracle/nfc.jsonl.

usage: make_nfc_vectors.py > tests/oracle/nfc.jsonl        (needs the package `tokenizers`)

Every character that has a decomposition, alone; Hangul; random strings of letters and marks.  Characters that the
package's tables do not know yet (new in Unicode 11 or later) are left out: utf8proc knows some of them."""
import json
import random
import unicodedata as u

from tokenizers import normalizers

nfc = normalizers.NFC()
random.seed(3)
texts = ["", "cafe\u0301", "e\u0301\u0323 e\u0323\u0301", "\u1100\u1161\u11a8", "\uac00\u11a7x", "\u304b\u3099", "\u212b",
         "a\u0000e\u0301", "\u0344", "\u0958", "\ufb1d", "\u2126", "\ud834\udd5e".encode("utf-16", "surrogatepass").decode("utf-16")]
changed = [c for c in map(chr, range(0x110000))
           if not 0xD800 <= ord(c) < 0xE000 and u.normalize("NFC", c) != c and not 0xF900 <= ord(c) < 0xFB00]
texts += changed
marks = [c for c in map(chr, range(0x300, 0x110000)) if u.combining(c) and ord(c) < 0x700]
letters = list("aeiouAEIOUnNsSкиї") + ["\u0915", "\u1103", "\u1161", "\u11ab", "\uac00", "\u30a6", "\u3099", "\u03b1"]
for _ in range(300):
    texts.append("".join(random.choice(letters if random.random() < .5 else marks) for _ in range(random.randint(2, 12))))
texts.append("a" + "".join(random.choice(marks) for _ in range(200)))
for t in texts:
    print(json.dumps({"text": t, "nfc": nfc.normalize_str(t)}))
