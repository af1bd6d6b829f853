"""Writes corpus.txt: 2,400 lines of mixed languages, code and emoji, the same at every run.

One text per line, with backslash, line feed, carriage return and NUL written as \\\\ \\n \\r \\0.
"""

import pathlib
import random
import unicodedata

SENTENCES = """
The quick brown fox jumps over the lazy dog, doesn't it? We'll see what they've done; I'd say it's fine, you're right.
HE SAID "IT'S NOT YOURS!" AND SHE'LL ANSWER: WE'VE, I'M, YOU'D.
In 1969, 3.14159 people paid $1,234,567.89 (about 42%) for 1000000 items at 10:30pm on 2024-02-29.
Franz jagt im komplett verwahrlosten Taxi quer durch Bayern, während Größe und Straße überprüft werden.
Voix ambiguë d'un cœur qui, au zéphyr, préfère les jattes de kiwis. L'été, où êtes-vous ?
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío; ¿añoraba a su querido cachorro?
Luís argüia à Júlia que «brações, fé, chá, óxido, pôr, zângão» eram palavras do português.
Ma la volpe, col suo balzo, ha raggiunto il quieto Fido perché è così.
Pchnąć w tę łódź jeża lub ośm skrzyń fig. Zażółć gęślą jaźń.
Příliš žluťoučký kůň úpěl ďábelské ódy, šílený čtyřnohý.
Árvíztűrő tükörfúrógép, jó foxim és don Quijote húszwattos lámpánál ülve egy pár bűvös cipőt készít.
Pijamalı hasta, yağız şoföre çabucak güvendi. İstanbul'da ISI ve ılık rüzgâr.
Flygande bäckasiner söka hwila på mjuka tuvor. Quizdeltagerne spiste jordbær med fløde.
Kæmi ný öxi hér, ykist þjófum nú bæði víl og ádrepa.
Съешь же ещё этих мягких французских булок, да выпей чаю. Объём, подъезд, ёлка.
Чуєш їх, доцю, га? Кумедна ж ти, прощайся без ґольфів!
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία, ΟΔΟΣ και οδός, ΐ και ΰ.
דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עֲלֵיכֶם
نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق. السَّلَامُ عَلَيْكُمْ ١٢٣٤٥
ژاله پرچم‌های سبز را می‌برد و گفت: «خوش آمدید». ۱۲۳۴۵۶۷۸۹۰
ایک تیز بھورا لومڑی سست کتے پر چھلانگ لگاتی ہے۔
ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले विष्णुवतार भगवान श्रीराम। १२३
আমি বাংলায় গান গাই, আমি বাংলার গান গাই। ০১২৩
யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்.
ఆంధ్రదేశపు తెలుగు భాష తియ్యనైనది. ಕನ್ನಡ ಭಾಷೆ. മലയാളം ഭാഷ.
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓
ພາສາລາວ ភាសាខ្មែរ မြန်မာဘာသာ བོད་སྐད་ ሰላም ልዑል ქართული ენა Հայերեն լեզու
我能吞下玻璃而不伤身体。今天天气真好，我们一起去公园散步吧！２０２４年１月１日
視野無限廣，窗外有藍天。微風迎客，軟語伴茶。繁體中文測試：「你好嗎？」
いろはにほへとちりぬるを。色は匂へど散りぬるを、我が世誰ぞ常ならむ。カタカナとｶﾀｶﾅとＡＢＣ
키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. ㄱㄴㄷ 한글
Tiếng Việt: Con cáo nâu nhanh nhẹn nhảy qua con chó lười biếng, đường phố Hà Nội.
Emoji 😀😃😄 👨‍👩‍👧‍👦 👩🏽‍🚀 🇩🇪🇫🇷🇯🇵 ❤️‍🔥 🏳️‍🌈 1️⃣2️⃣ ✅ ☃ ☺️ 🫠 🥹
Maths: ∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, α ∧ ¬β = ¬(¬α ∨ β), ℕ ⊆ ℕ₀ ⊂ ℤ, x² + y³ = z⁴, ½ ¾ Ⅷ ⅳ ① ⑳ ㊿ ∑∏∫√∞
e\u0301 vs é, A\u030a vs Å vs \u212b, ﬁ ﬂ ﬀ, ẛ̣, ｆｕｌｌ ｗｉｄｔｈ, ① ㎏ ℡, 한 = 한
def fibonacci(n: int) -> list[int]:
    return [a for a, b in itertools.accumulate(range(n), lambda s, _: (s[1], s[0] + s[1]), initial=(0, 1))]
for (size_t i = 0; i < n; ++i) { sum += static_cast<double>(a[i]) * b[i]; }  // dot product
\tif err != nil {\n\t\treturn fmt.Errorf("open %q: %w", path, err)\n\t}\n
SELECT u.id, COUNT(*) AS n FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.name LIKE '%O''Brien%' GROUP BY 1;
const f = async ({ a, b = 2, ...rest }) => `${a}-${b}` ?? rest?.x?.[0] !== null && (x => x ** 2)(3);
<html lang="en"><body class='main'>&nbsp;<p style="color:#ff00aa">Hello &amp; goodbye</p></body></html>
{"key": [1, 2.5e-10, true, null, "a\\"b\\\\c"], "nested": {"empty": {}, "unicode": "\\u00e9"}}
#!/bin/bash\nset -euo pipefail\nfor f in *.txt; do grep -E '^[a-z]+$' "$f" | sort -u > "${f%.txt}.out"; done
https://example.com/path/to/page?query=1&lang=de#frag mailto:first.last+tag@sub.example.org C:\\Users\\me\\file.txt
$ git commit -m "fix: don't crash" && git push --force-with-lease origin HEAD:refs/heads/main
\\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a} \\quad \\text{where } a \\neq 0
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
---------- ==========  .......... ########## //////// ********
pneumonoultramicroscopicsilicovolcanoconiosis Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft
<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n
<|endoftext|> text <s>[INST] <<SYS>> be brief <</SYS>> hi [/INST] </s><mask> <left> x <right> word <both> y
""".strip("\n").split("\n")

SPACES = [" ", "  ", "   ", "\n", "\n\n", "\t", " \n", "\n ", "\r\n", "\u00a0", "\u3000", "\u2003", "\u2028", "\u200b", "\u180e", "\u0085", ""]
MARKS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<left>", "<right>", "<both>", "<word>", "<NORM>", "<s>", "</s>"]
RANGES = [(0x20, 0x7F), (0x00, 0x20), (0xA0, 0x250), (0x250, 0x530), (0x590, 0x700), (0x900, 0xE00), (0x1E00, 0x2000),
          (0x2000, 0x2C00), (0x3000, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0xE000, 0xF8FF), (0xFB00, 0xFE00),
          (0xFF00, 0xFFF0), (0x1F300, 0x1FAF0), (0x10000, 0x10400), (0x20000, 0x20100)]


def line(rng):
    kind = rng.random()
    if kind < 0.25:
        words = rng.choice(SENTENCES).split(" ")
        begin = rng.randrange(len(words))
        text = " ".join(words[begin : begin + rng.randint(3, 20)])
        return rng.choice(["", "", "", " ", "  ", "\n"]) + text + rng.choice(["", "", "", " ", "\n"])
    if kind < 0.75:
        pieces = []
        for _ in range(rng.randint(3, 12)):
            words = rng.choice(SENTENCES).split(" ")
            pieces.append(rng.choice(words))
            pieces.append(rng.choice(SPACES) if rng.random() < 0.5 else " ")
            if rng.random() < 0.08:
                pieces.append(rng.choice(MARKS))
        return "".join(pieces)
    if kind < 0.85:
        return "".join(rng.choice(SPACES + list("ab1.")) for _ in range(rng.randint(2, 30)))
    text = []
    for _ in range(rng.randint(2, 25)):
        low, high = rng.choice(RANGES)
        character = chr(rng.randrange(low, high))
        # Characters that every Unicode version knows alike.
        if low == 0x1F300 or unicodedata.ucd_3_2_0.category(character) != "Cn":
            text.append(character)
        if rng.random() < 0.2:
            text.append(rng.choice(SPACES))
    return "".join(text)


def main():
    rng = random.Random(20240229)
    lines = SENTENCES + [""]
    while len(lines) < 2400:
        lines.append(line(rng))
    escaped = [s.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0") for s in lines]
    out = pathlib.Path(__file__).with_name("corpus.txt")
    out.write_text("\n".join(escaped) + "\n", encoding="utf-8", newline="\n")
    print(out, out.stat().st_size, "bytes", len(lines), "lines")


main()
