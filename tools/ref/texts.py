"""A few hundred texts that are hard on a tokenizer."""

import random

PROSE = [
    "The lighthouse keeper counted eleven ships before the fog rolled in.",
    "It's what we've always done; they'll say we shouldn't've, but I'd do it again.",
    "IT'S LOUD HERE, ISN'T IT? WE'LL SHOUT, THEY'RE DEAF, I'M NOT, YOU'VE HEARD, HE'D KNOW",
    "Ein Äpfelbaum über dem Fluß trägt süße Früchte, größer als je zuvor.",
    "Donaudampfschifffahrtsgesellschaftskapitän",
    "Où est passé le garçon naïf qui mangeait des œufs à Noël ? L'été s'achève aujourd'hui.",
    "El niño pidió una cigüeña de cartón. ¿Quién lo diría? ¡Nadie!",
    "Zażółć gęślą jaźń, a potem idź spać.",
    "Příliš žluťoučký kůň úpěl ďábelské ódy.",
    "Съешь ещё этих мягких булок, да выпей чаю.",
    "Η γρήγορη αλεπού πηδά πάνω από το σκυλί.",
    "春天来了,河边的柳树发芽了。孩子们在草地上放风筝。",
    "今日はとても良い天気ですね。カフェで本を読みましょう!ラーメンも食べたい。",
    "안녕하세요, 오늘 날씨가 정말 좋네요.",
    "الطقس جميل اليوم، والطيور تغني فوق الأشجار.",
    "שלום לכולם, הספרייה נפתחת בשמונה.",
    "नमस्ते दुनिया, आज मौसम अच्छा है।",
    "สวัสดีชาวโลก วันนี้อากาศดี",
    "Xin chào, hôm nay trời đẹp quá, phải không?",
    "İstanbul'da güneş ılık ılık parlıyordu.",
    "ქართული ენა ძველია", "Հայերեն գրեր", "ᚠᛇᚻ ᛒᛦᚦ", "ελληνικά and Latin and кириллица mixed",
]

CODE = [
    "int main(void)\n{\n\treturn puts(\"hi\") < 0;\n}\n",
    "def area(r: float) -> float:\n    \"\"\"Of a circle.\"\"\"\n    return 3.14159 * r ** 2\n",
    "for (let i = 0; i <= n; i++) { total += a[i] ?? 0; }",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name HAVING COUNT(*) > 1;",
    "if x != y && !z || w == ~v { x ^= y >> 3 }",
    "<div class=\"row\" id='r1'>&nbsp;<br/></div>",
    "{\"a\": [1, 2.5, -3e10, null, true], \"b\\n\": \"\\u00e9\"}",
    "$ ls -la /usr/local/share | grep '^d' > /dev/null 2>&1",
    "\\frac{\\partial f}{\\partial x_i} = \\sum_{j=1}^{n} w_{ij}",
    "https://example.org/path?q=a%20b&lang=de#part-2",
    "a->b::c.d()[0]@e#f$g%h^i&j*k",
    "0xDEADBEEF 0b1010 0o755 1_000_000 1e-9 .5 5. 0.1f 10L",
    "snake_case camelCase PascalCase kebab-case SCREAMING_CASE x86_64 utf8mb4",
    "match self { Some(ref v) if *v > 0 => Ok(v), _ => Err(\"none\".into()) }",
    "#include <stdio.h>\r\n#define MAX(a,b) ((a)>(b)?(a):(b))\r\n",
    "\t\tif\t(a)\t{\n\t\t\tb();\n\t\t}\n",
    "// ---------- 8< ----------", "/* ****** */", "====", "!!!???!?!", "...", "\u2026", "--", "\u2014",
    "'''", "\"\"\"", "`tick` ``two`` ```three```", "(((())))", "[[x]]{{y}}<<z>>",
]

NUMBERS = [
    "0", "7", "42", "365", "1999", "123456789012345678901234567890", "3.14159", "1,234,567.89",
    "-17 °C", "½", "¼ cup", "x² + y³ = z⁴", "H₂O", "①②③", "Ⅷ", "٣٤٥", "४५६", "123", "一二三",
    "2026-11-24T21:30:05Z", "+49 (0)30 1234-5678", "50%", "€19.99", "£5", "¥1000", "1½", "a1b2c3",
    "10²³", "𝟘𝟙𝟚", "〇", "1st 2nd 3rd 4th", "5'11\"", "v1.2.3-rc.4",
]

BLANKS = [
    " ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\n\n\n\n", "\r", "\r\n", "\r\n\r\n",
    " \n ", "\n \n", "a  b", "a   b    c", "  leading", "trailing  ", "tab\there", "\tindented",
    "line one\nline two\r\nline three\rline four", "word \n\n word", "a\u00a0b", "a\u00a0\u00a0b",
    "\u3000全角", "a\u2003b", "a\u2028b\u2029c", "a\u200bb", "\ufeffbom", "x \t y", "\x0b\x0c", " .",
    "  .", " 's", "  's", " 1", "  12",
]

ODD = [
    "\x01\x02\x03", "\x7f", "\x1b[31mred\x1b[0m", "a\x08b", "\x85next", "a\u180eb", "soft\u00adhyphen",
    "😀", "👩\u200d👩\u200d👧\u200d👦", "🏳\ufe0f\u200d🌈", "👍🏽 ok", "🇩🇪🇫🇷", "❤\ufe0f", "1\ufe0f\u20e3", "🙂🙂🙂",
    "e\u0301 vs é", "Z\u0351\u036b\u0343a\u0334l\u0335g\u0336o", "ﬁne ﬂow", "ＦＵＬＬ　ＷＩＤＴＨ", "𝓯𝓪𝓷𝓬𝔂 𝖙𝖊𝖝𝖙",
    "\U0010ffff", "\ue000\uf8ff", "\u202eright to left", "™®©", "∑∫√∞≠≈", "→←↑↓⇒", "█▓▒░", "♠♥♦♣",
    "ǅ ǆ Ǆ", "ªº", "ʰʱʲ", "a\u0300\u0301\u0302b", "don\u2019t we\u2019ll",
]

SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_start|>user\nHello<|im_end|>\n",
    "<|im_start|><|im_start|>", " <|im_end|> ", "a<|endoftext|>b", "<|im_start", "|im_end|>",
    "<|im_end|>\n<|im_start|>assistant\n", "<|IM_START|>", "<|im_start|>\u00a0x", "<repo_name>fathom",
    "<reponame>x<file_sep>y<filename>z<gh_stars>5", "<issue_start>a<issue_comment>b<issue_closed>",
    "<jupyter_start><jupyter_text>t<jupyter_code>c<jupyter_output>o<jupyter_script><empty_output>",
    "<s></s><unk><pad>", "<\uff5cUser\uff5c>", "[INST] x [/INST]",
]

PLAIN_END = [
    "a", "A", "é", "中", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "abababababababababababab", "The the THE tHe", "antidisestablishmentarianism",
]


def mixtures(count: int) -> list[str]:
    """Pieces of all the lists, cut at random places and glued together."""
    rng = random.Random(2026)
    pools = [PROSE, CODE, NUMBERS, BLANKS, ODD, SPECIAL]
    out = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(2, 6)):
            text = rng.choice(rng.choice(pools))
            begin = rng.randint(0, len(text) // 2)
            parts.append(text[begin:begin + rng.randint(1, 24)])
        out.append(rng.choice(["", " ", "\n"]).join(parts))
    return out


def all_texts(count: int = 240) -> list[str]:
    texts = ["", *PROSE, *CODE, *NUMBERS, *BLANKS, *ODD, *SPECIAL, *PLAIN_END]
    return texts + mixtures(count - len(texts))
