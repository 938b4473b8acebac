"""Give a GGUF another chat template in its own's place.  usage: retemplate.py IN OUT TEMPLATE [TOKEN=TOKEN…]

The new one is padded with blanks, so that what stands behind does not move; tokens get other texts."""
import struct
import sys

data = bytearray(open(sys.argv[1], "rb").read())
key = b"tokenizer.chat_template"
at = data.index(struct.pack("<Q", len(key)) + key) + 8 + len(key)
kind, length = struct.unpack_from("<IQ", data, at)
pairs = [[struct.pack("<Q", len(x)) + x for x in pair.encode().split(b"=")] for pair in sys.argv[4:]]
room = length - sum(len(new) - len(old) for old, new in pairs)
template = sys.argv[3].encode()
assert kind == 8 and len(template) <= room, (kind, length)
data[at + 4:at + 12 + length] = struct.pack("<Q", room) + template.ljust(room)
for old, new in pairs:
    assert data.count(old) == 1, old
    data[data.index(old):data.index(old) + len(old)] = new
open(sys.argv[2], "wb").write(data)
