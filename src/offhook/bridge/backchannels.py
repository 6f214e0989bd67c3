"""Words that are said along with somebody who speaks, and ask for nothing: "mm-hm", "yes", "genau". Pure data.

Whoever says only such words over the agent lets it go on. A word that may also be a protest ("no", "nein", "halt",
"wait") is none. Languages are not told apart: a word that is a backchannel in one and a request in another is left out.
"""

from __future__ import annotations

import re
import unicodedata

MAX_WORDS = 6
"""``Yeah yeah okay right sure``: with more words somebody says something."""

_SOUNDS = (
    *("m", "mm", "mmm", "mhm", "mm hm", "mm hmm", "m hm", "m hmm", "mhmm", "hm", "hmm", "hmmm", "uh", "uh huh", "uhuh"),
    *("uhhuh", "ah", "aha", "ah ha", "oh", "ooh", "huh", "eh", "er", "erm", "um", "ehm", "em", "hem", "ahem", "hum"),
    *("äh", "ähm", "öh", "öhm", "hein"),
    # spelled by those who cannot hum
    *("m h m", "m m h m", "mmhm", "mmhmm", "em em aitch em", "m m m h m"),
)
"""Not a word, in any language: they say nothing at all, wherever they come."""

_PHRASES = (
    # English
    *("yes", "yeah", "yep", "yup", "ya", "okay", "ok", "okey", "okay then", "k", "right", "alright", "all right"),
    *("sure", "of course", "i see", "i know", "got it", "gotcha", "good", "great", "fine", "nice", "cool", "perfect"),
    *("exactly", "absolutely", "definitely", "indeed", "true", "correct", "thanks", "thank you", "wow", "really"),
    *("uh yeah", "oh okay", "that's right", "thats right", "sounds good", "very good", "makes sense", "fair enough"),
    # German
    *("ja", "jaja", "jo", "jup", "jep", "genau", "gut", "sehr gut", "klar", "stimmt", "richtig", "ach so", "achso"),
    *("ach ja", "alles klar", "in ordnung", "verstehe", "ich verstehe", "natürlich", "prima", "super", "danke", "so"),
    *("eben", "ah ja", "aha ja", "na gut", "schön", "toll", "freilich", "passt", "hä"),
    # Spanish
    *("si", "sí", "sip", "vale", "bueno", "claro", "claro que sí", "de acuerdo", "ya", "ya veo", "entiendo", "bien"),
    *("muy bien", "perfecto", "exacto", "así es", "ajá", "aja", "ok vale", "está bien", "por supuesto", "gracias"),
    # French
    *("oui", "ouais", "d'accord", "d accord", "daccord", "bien sûr", "c'est ça", "c est ça", "voilà", "bien"),
    *("très bien", "je vois", "je comprends", "parfait", "exactement", "tout à fait", "entendu", "merci", "bon"),
    *("ah bon", "ben oui"),
    # Italian
    *("sì", "certo", "va bene", "d'accordo", "esatto", "giusto", "capisco", "ho capito", "bene", "perfetto", "grazie"),
    # Portuguese
    *("sim", "tá", "tá bom", "está bem", "certo", "claro", "entendi", "isso", "pois", "pois é", "beleza", "obrigado"),
    *("obrigada", "perfeito", "exato"),
    # Dutch
    *("ja hoor", "oké", "oke", "goed", "precies", "juist", "inderdaad", "prima", "duidelijk", "begrijp ik", "dank u"),
    # Polish, Czech
    *("tak", "dobrze", "dobra", "jasne", "rozumiem", "no tak", "dziękuję", "ano", "jo", "dobře", "jasně", "rozumím"),
    # Swedish, Norwegian, Danish
    *("okej", "precis", "visst", "jaha", "jovisst", "akkurat", "nemlig", "tack", "takk", "tak", "just det"),
    # Turkish
    *("evet", "tamam", "peki", "anladım", "tabii", "doğru", "teşekkürler"),
    # Russian, Ukrainian
    *("да", "угу", "ага", "хорошо", "понятно", "ясно", "конечно", "ладно", "так", "добре", "зрозуміло", "спасибо"),
    # Japanese, Chinese, Korean, Hindi, Arabic
    *("はい", "うん", "うんうん", "ええ", "そうですね", "なるほど", "そう"),
    *("嗯", "嗯嗯", "好", "好的", "对", "對", "是", "是的"),
    *("네", "예", "응", "그래", "알겠습니다", "हाँ", "हां", "जी", "ठीक है", "अच्छा", "نعم", "ايوه", "تمام", "حسنا", "طيب"),
)  # fmt: skip

_ASIDE = re.compile(r"\[[^]]*\]|\([^)]*\)|<[^>]*>|\*[^*]*\*")
"""How recognisers write what is no word: [cough], (laughs), <noise>."""
_NOT_A_WORD = re.compile(r"[^\w' ]+")


def _plain(text: str) -> str:
    """Small letters, single spaces, no punctuation but apostrophes."""
    text = unicodedata.normalize("NFC", _ASIDE.sub(" ", text)).casefold().replace("’", "'")
    return " ".join(_NOT_A_WORD.sub(" ", text).replace("_", " ").split())


_WORDLESS = frozenset(_plain(phrase) for phrase in _SOUNDS)
_KNOWN = _WORDLESS | {_plain(phrase) for phrase in _PHRASES}
_LONGEST = max(len(phrase.split()) for phrase in _KNOWN)


def is_sound(text: str) -> bool:
    """Not a word in it; nothing at all counts too."""
    return _is_made_of(_WORDLESS, _plain(text).split())


def is_backchannel(text: str) -> bool:
    """All of it is what one says along with somebody; what is wordless is, too."""
    words = _plain(text).split()
    return len(words) <= MAX_WORDS and _is_made_of(_KNOWN, words)


def same_words(one: str, other: str) -> bool:
    """The same but for letters' case, punctuation, and what is no word."""
    return _plain(one) == _plain(other)


def _is_made_of(phrases: frozenset[str], words: list[str]) -> bool:
    at = 0
    while at < len(words):
        length = next((n for n in range(_LONGEST, 0, -1) if " ".join(words[at : at + n]) in phrases), 0)
        if not length:
            return False
        at += length
    return True
