"""Abbreviated month names in the locales that journalctl, dmesg and syslog daemons use. Pure.

`%b` depends on the locale of the process: a German journalctl prints `Okt`, a Japanese one `10月`. Source: glibc's
locales. Croatian uses `lip`, `srp` and `lis` for other months than Polish and Czech; the latter are supported.
"""

_NAMES = (
    # English, German, French, Italian, Spanish, Portuguese, Dutch, Nordic, Polish, Czech, Turkish, Russian, Ukrainian.
    "jan jän jän. janv. janv gen ene sty led oca янв січ jan.",
    "feb feb. févr. févr fev lut úno şub фев лют helmi",
    "mar mär mär. märz mars mrt bře мар бер mars. maalis",
    "apr apr. avr. avr abr kwi dub nis апр кві huhti",
    "may mai mag mei maj kvě май мая тра maj. touko",
    "jun juin giu čen haz июн чер jun. kesä",
    "jul juil. juil lug čec tem июл лип jul. heinä",
    "aug août ago sie srp ağu авг сер aug. elo",
    "sep sept. sept set wrz zář eyl сен вер sep. syys",
    "oct okt oct. ott out paź říj eki окт жов okt. loka",
    "nov nov. kas lis ноя лис marras",
    "dec dez déc. déc dic gru pro ara дек гру dec. joulu",
)
_BY_NAME = {name.encode(): number for number, names in enumerate(_NAMES, start=1) for name in names.split()}
_NUMBERED = ("月", "월")
"""Suffixes of numbered months in Chinese, Japanese and Korean."""


def month_number(name: bytes) -> int | None:
    """The month of that name, ignoring case; None for an unknown name."""
    text = name.decode(errors="replace")
    for ending in _NUMBERED:
        number = text.removesuffix(ending)
        if number != text and number.isascii() and number.isdigit() and 1 <= int(number) <= 12:
            return int(number)
    return _BY_NAME.get(text.lower().encode())
