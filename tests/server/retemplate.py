"""Give a GGUF another chat template in its own's place.  usage: retemplate.py IN OUT TEMPLATE [TOKEN=TOKEN…]

The new one is padded with blanks to the old one's length, so that nothing moves; tokens get other texts of the same length."""
import struct
import sys

data = bytearray(open(sys.argv[1], "rb").read())
key = b"tokenizer.chat_template"
at = data.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
kind, length = struct.unpack_from("<IQ", data, at)
template = sys.argv[3].encode()
assert kind == 8 and len(template) <= length, (kind, length)
data[at + 12:at + 12 + length] = template.ljust(length)
for pair in sys.argv[4:]:
    old, new = (struct.pack("<Q", len(x)) + x for x in pair.encode().split(b"="))
    assert len(old) == len(new) and data.count(old) == 1, pair
    data[data.index(old):data.index(old) + len(old)] = new
open(sys.argv[2], "wb").write(data)
